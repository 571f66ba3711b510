"""What takes the figures of a run."""
from abc import ABC, abstractmethod
from typing import Any

from PIL import Image


class Logger(ABC):
    """Takes figures and pictures in the process that writes; subclasses are given to `gradaug_timm.train`.

    `step` is the number of optimizer updates until then, which never falls. Names are `step/loss`, `step/lr` and so on
    at each log interval, and the columns of summary.csv after each validated epoch.

    Example:
        >>> from gradaug_timm import Logger
        >>> class Printer(Logger):
        ...     def log(self, values, step):
        ...         print(step, values)
        >>> Printer().log({'step/loss': 2.5}, 10)
        10 {'step/loss': 2.5}
    """

    @abstractmethod
    def log(self, values: dict[str, float], step: int) -> None:
        """Take figures.

        Args:
            values: The figures by name.
            step: The number of updates until now.
        """

    def image(self, name: str, picture: Image.Image, step: int) -> None:  # noqa: B027  many take none
        """Take a picture.

        Args:
            name: Its name.
            picture: The picture.
            step: The number of updates until now.
        """

    def start(self, folder: str, *, continued_at: int | None) -> None:  # noqa: B027
        """Begin, before the first figure.

        Args:
            folder: The folder of the run.
            continued_at: Updates after which the run is resumed: figures of later ones are void. None where it starts.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs, as for `Callback`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take what `state_dict` returned."""

    def flush(self) -> None:  # noqa: B027  most have nothing to do
        """Puts on the disk what belongs to this machine; a checkpoint follows."""

    def close(self, *, failed: bool = False) -> None:  # noqa: B027
        """Ends; `failed` is whether the run ended before its last epoch."""
