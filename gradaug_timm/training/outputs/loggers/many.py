"""Several loggers as one."""
import logging
from collections.abc import Sequence

from PIL import Image

from .logger import Logger

_logger = logging.getLogger(__name__)


class Loggers(Logger):
    """A logger that passes figures and pictures to several loggers; a context manager that closes them.

    Args:
        loggers: The loggers; none in processes that do not write.
        ahead: Number that is added to every step.
    """

    def __init__(self, loggers: Sequence[Logger] = (), *, ahead: int = 0):
        self._loggers, self._ahead = tuple(loggers), ahead

    def log(self, values: dict[str, float], step: int) -> None:
        for logger in self._loggers:
            logger.log(values, step + self._ahead)

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        for logger in self._loggers:
            logger.image(name, picture, step + self._ahead)

    def flush(self) -> None:
        for logger in self._loggers:
            logger.flush()

    def close(self, *, failed: bool = False) -> None:
        """Close all loggers; after a failed run, errors here only become warnings.

        Raises:
            OSError: A logger cannot write its last figures; the others are closed.
        """
        errors = []
        for logger in self._loggers:
            try:
                logger.close(failed=failed)
            except OSError as error:
                errors.append(error)
        if errors and not failed:
            raise errors[0]
        for each in errors:
            _logger.warning(f'{each}')

    def __enter__(self) -> 'Loggers':
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.close(failed=error is not None)
