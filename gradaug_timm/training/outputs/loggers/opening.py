"""The loggers that the flags ask for."""
import os
from collections.abc import Sequence
from functools import partial

from ...arguments.settings import LoopSettings
from ..folder import EVENTS, RunFolder
from .folder_logger import FolderLogger
from .guarded import GuardedLogger
from .logger import Logger
from .many import Loggers
from .tensorboard_logger import TensorBoardLogger
from .trackio_logger import start_trackio
from .wandb_logger import start_wandb


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
        RefusedError: wandb refuses the flags, or knows no user.
    """
    name = os.path.basename(os.path.normpath(folder.path))
    loggers: list[Logger] = [FolderLogger(folder.path)]
    if args.log_tensorboard:
        loggers.append(TensorBoardLogger(os.path.join(folder.path, EVENTS), continued_at=continued_at))
    if args.log_wandb:
        loggers.append(GuardedLogger('--log-wandb', partial(start_wandb, args, name)))
    if args.log_trackio:
        start = partial(start_trackio, args, name, continued=continued_at is not None)
        loggers.append(GuardedLogger('--log-trackio', start))
    for logger in more:
        logger.start(folder.path, continued_at=continued_at)
    return Loggers([*loggers, *more], ahead=ahead)
