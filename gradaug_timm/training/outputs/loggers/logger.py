"""The base class of loggers."""
from abc import ABC, abstractmethod
from typing import Any

from PIL import Image


class Logger(ABC):
    """Base class of loggers, which get figures and pictures in the first process; pass yours to `gradaug_timm.train`.

    `step` is the number of optimizer updates so far, which never decreases. Names of figures are `step/loss`, `step/lr`
    and so on at each log interval, and the columns of summary.csv after each validated epoch.

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
        """Log figures.

        Args:
            values: The figures by name.
            step: The number of updates so far.
        """

    def image(self, name: str, picture: Image.Image, step: int) -> None:  # noqa: B027  optional
        """Log a picture.

        Args:
            name: The name of the picture.
            picture: The picture.
            step: The number of updates so far.
        """

    def start(self, folder: str, *, continued_at: int | None) -> None:  # noqa: B027
        """Start logging, before the first figure.

        Args:
            folder: The folder of the run.
            continued_at: The number of updates at which the run resumes; discard figures of later updates. None in a
                new run.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state that resuming needs, as in `Callback`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore the state that `state_dict` returned."""

    def flush(self) -> None:  # noqa: B027  optional
        """Flush local files to the disk; called before each checkpoint."""

    def close(self, *, failed: bool = False) -> None:  # noqa: B027
        """Stop logging; `failed` says whether the run ended before its last epoch."""
