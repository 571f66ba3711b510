"""Opening of the loggers that the settings name."""
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...arguments.settings import LoopSettings
from ..folder import RunFolder
from .folder_logger import FolderLogger
from .guarded import GuardedLogger
from .logger import Logger
from .many import Loggers
from .registry import LOGGERS, LoggedRun, RegisteredLogger


def open_loggers(
        args: LoopSettings,
        folder: RunFolder,
        *,
        continued_at: int | None = None,
        ahead: int = 0,
        more: Sequence[Logger] = (),
) -> Loggers:
    """Return the log in the folder of a run, the loggers that the settings name, and the loggers of the user.

    Args:
        args: The settings.
        folder: The folder.
        continued_at: The number of updates at which a run in this folder resumes; None in a new run.
        ahead: Number that is added to every step: earlier updates that this run does not count.
        more: Loggers of the user.

    Raises:
        OSError: The files of TensorBoard cannot be written.
        RefusedError: A service rejects the flags, such as wandb if no user is logged in.
        ValueError: A logger is not registered.
    """
    run = LoggedRun(folder.path, os.path.basename(os.path.normpath(folder.path)), args.values(), continued_at)
    loggers: list[Logger] = [FolderLogger(folder.path)]
    for name, registered in _in_order(asked_loggers(run.flags)):
        start = partial(registered.open, run)
        loggers.append(GuardedLogger(f'--log-{name}', start) if registered.guarded else start())
    for logger in more:
        logger.start(folder.path, continued_at=continued_at)
    return Loggers([*loggers, *more], ahead=ahead)


def asked_loggers(flags: Mapping[str, Any]) -> list[str]:
    """Return the names of the loggers in the flags: `--log-NAME`, or `--log NAME` for loggers without such a flag."""
    return [*(name for name in LOGGERS if flags.get(f'log_{name}')), *(flags.get('log') or ())]


def _in_order(names: list[str]) -> list[tuple[str, RegisteredLogger]]:
    """Return loggers by name, first the ones that may end the run, so that no other has started by then."""
    found = [(name, LOGGERS.find(name)) for name in dict.fromkeys(names)]
    return sorted(found, key=lambda pair: (pair[1].guarded, not pair[1].may_refuse))
