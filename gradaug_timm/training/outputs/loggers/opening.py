"""The loggers that the flags ask for."""
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
    """Return the log in the folder of a run, what the settings name, and the user's own.

    Args:
        args: The settings.
        folder: The folder.
        continued_at: Updates after which a run in this folder goes on; None where it begins.
        ahead: Added to every step: updates that were made before and that the run doesn't count.
        more: The user's own.

    Raises:
        OSError: TensorBoard's files can't be written.
        RefusedError: A service refuses the flags, as wandb does where it knows no user.
        ValueError: A logger isn't registered.
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
    """Return the loggers that flags ask for: `--log-NAME`, or `--log NAME` of those without such a flag."""
    return [*(name for name in LOGGERS if flags.get(f'log_{name}')), *(flags.get('log') or ())]


def _in_order(names: list[str]) -> list[tuple[str, RegisteredLogger]]:
    """Return loggers by name, those first that end the run where they fail: nothing is begun elsewhere then."""
    found = [(name, LOGGERS.find(name)) for name in dict.fromkeys(names)]
    return sorted(found, key=lambda pair: (pair[1].guarded, not pair[1].may_refuse))
