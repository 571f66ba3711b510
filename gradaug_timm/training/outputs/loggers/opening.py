"""Opening of the loggers that the settings name."""
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
    """Return the log in the folder of a run, the loggers that the settings name, and the loggers of the user.

    Args:
        args: The settings.
        folder: The folder.
        continued_at: The number of updates at which a run in this folder resumes; None in a new run.
        ahead: Number that is added to every step: earlier updates that this run does not count.
        more: Loggers of the user.

    Raises:
        OSError: The files of TensorBoard cannot be written.
        RefusedError: wandb rejects the flags, or no user is logged in.
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
