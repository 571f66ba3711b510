"""What takes the figures of a run."""
from abc import ABC, abstractmethod

from PIL import Image


class Logger(ABC):
    """Takes figures and pictures; `step` is the number of optimizer updates until then, which never falls."""

    @abstractmethod
    def log(self, values: dict[str, float], step: int) -> None:
        """Takes figures by their names."""

    @abstractmethod
    def image(self, name: str, picture: Image.Image, step: int) -> None:
        """Takes a picture."""

    def flush(self) -> None:  # noqa: B027  most have nothing to do
        """Puts on the disk what belongs to this machine; a checkpoint follows."""

    def close(self, *, failed: bool = False) -> None:  # noqa: B027
        """Ends; `failed` is whether the run ended before its last epoch."""
