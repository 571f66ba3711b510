"""Loggers of services, whose failures end no run."""
import logging
from collections.abc import Callable

from PIL import Image

from ....cli import one_line
from .logger import Logger

_logger = logging.getLogger(__name__)


class RefusedError(ValueError):
    """A service refuses what the flags ask of it."""


class GuardedLogger(Logger):
    """Warns once where a logger fails, and goes on without it.

    Args:
        flag: What asked for it.
        create: Makes the logger; its RefusedError is passed on.
    """

    def __init__(self, flag: str, create: Callable[[], Logger]):
        self._flag, self._guarded = flag, None
        try:
            self._guarded = create()
        except RefusedError:
            raise
        except Exception as error:  # services raise anything
            self._give_up(error)

    def log(self, values: dict[str, float], step: int) -> None:
        self._try(lambda logger: logger.log(values, step))

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        self._try(lambda logger: logger.image(name, picture, step))

    def close(self, *, failed: bool = False) -> None:
        self._try(lambda logger: logger.close(failed=failed))

    def _try(self, action: Callable[[Logger], None]) -> None:
        if self._guarded is None:
            return
        try:
            action(self._guarded)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._guarded = None
        _logger.warning(f'{self._flag} fails, the run goes on without it ({one_line(error, kind=True)}).')
