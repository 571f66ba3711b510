"""Several loggers as one."""
from collections.abc import Sequence

from PIL import Image

from .logger import Logger


class Loggers(Logger):
    """Hands all on to each logger; a context at whose end they are closed.

    Args:
        loggers: The loggers; none in processes that don't write.
    """

    def __init__(self, loggers: Sequence[Logger] = ()):
        self._loggers = tuple(loggers)

    def log(self, values: dict[str, float], step: int) -> None:
        for logger in self._loggers:
            logger.log(values, step)

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        for logger in self._loggers:
            logger.image(name, picture, step)

    def flush(self) -> None:
        for logger in self._loggers:
            logger.flush()

    def close(self, *, failed: bool = False) -> None:
        for logger in self._loggers:
            logger.close(failed=failed)

    def __enter__(self) -> 'Loggers':
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.close(failed=error is not None)
