"""Loggers by name, and the description of the run with which they are opened."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ....registry import Registry
from .logger import Logger


@dataclass(frozen=True)
class LoggedRun:
    """The description of a run with which a logger is opened.

    Args:
        folder: Path of the folder of the run.
        name: Name of the folder.
        flags: The flags, by name.
        continued_at: The number of updates at which a run in this folder resumes; None in a new run.
    """
    folder: str
    name: str
    flags: Mapping[str, Any]
    continued_at: int | None = None


Open = Callable[[LoggedRun], Logger]


@dataclass(frozen=True)
class RegisteredLogger:
    """A registered logger; the arguments are those of `register_logger`."""
    open: Open
    guarded: bool = True
    may_refuse: bool = False


LOGGERS: Registry[str, RegisteredLogger] = Registry('logger')


def register_logger(name: str, *, guarded: bool = True, may_refuse: bool = False) -> Callable[[Open], Open]:
    """Return a decorator that registers a function which opens a logger for a LoggedRun.

    Args:
        name: Name of the logger, for `--log NAME`.
        guarded: Whether the run continues without the logger, with a warning, if the logger fails.
        may_refuse: Whether the logger may reject flags with a RefusedError, which ends the run in one line; such
            loggers are opened before the other services.

    Raises:
        ValueError: The name is already registered.

    Example:
        >>> from gradaug_timm import Logger, register_logger
        >>> from gradaug_timm.training.outputs.loggers.registry import LOGGERS
        >>> class Printer(Logger):
        ...     def log(self, values, step):
        ...         print(step, values)
        >>> @register_logger('printer')
        ... def open_printer(run):
        ...     return Printer()
        >>> 'printer' in LOGGERS
        True
        >>> LOGGERS.remove('printer')
    """
    def register(open: Open) -> Open:
        LOGGERS.add(name, RegisteredLogger(open, guarded, may_refuse), by=open)
        return open
    return register
