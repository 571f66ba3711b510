"""Loggers by name, and what they are told of the run."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ....registry import Registry
from .logger import Logger


@dataclass(frozen=True)
class LoggedRun:
    """What a logger may want to know of its run when it is opened.

    Args:
        folder: Path of the run's folder.
        name: Its last part.
        flags: The flags, by name.
        continued_at: Updates after which a run in this folder is resumed; None where it begins.
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
        name: The name that `--log NAME` asks for.
        guarded: Whether the run goes on without it where it fails, with a warning.
        may_refuse: Whether it checks what flags ask of it and raises a RefusedError, which ends the run in one line;
            such loggers are opened before the other services.

    Raises:
        ValueError: Another one has that name.

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
