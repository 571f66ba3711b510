"""Restoring a run from a checkpoint."""
from collections.abc import Callable

import torch
from timm.task import TrainingTask, load_task_ema_checkpoint, resume_task_checkpoint
from timm.utils import NativeScaler

from ...cli import one_line
from ...files import read_checkpoint
from ...mismatch import describe_mismatch, does_not_fit
from ..arguments.settings import LoopSettings
from ..position import Position
from .state import CheckpointState


def load_checkpoint(path: str) -> CheckpointState:
    """Return the content of the checkpoint that a run resumes."""
    return loading(path, lambda: CheckpointState.from_state(dict(read_checkpoint(path))))


def starting_position(args: LoopSettings, state: CheckpointState) -> Position:
    """Return where a run starts: at `--start-epoch` if given, else at the position of the checkpoint."""
    return state.position if args.start_epoch is None else Position(args.start_epoch)


def restore(
        args: LoopSettings,
        task: TrainingTask,
        optimizer: torch.optim.Optimizer,
        scaler: NativeScaler | None,
        path: str | None,
        *,
        log_info: bool,
) -> None:
    """Restore task, optimizer and scaler from the checkpoint at `path`, and set up the moving average."""
    if path:
        full = not args.no_resume_opt
        loading(path, lambda: resume_task_checkpoint(
            task, path, optimizer if full else None, scaler if full else None, log_info=log_info))
    if args.model_ema:
        task.setup_ema(
            decay=args.model_ema_decay,
            use_warmup=args.model_ema_warmup,
            device=torch.device('cpu') if args.model_ema_force_cpu else None,
        )
        if path:
            loading(path, lambda: load_task_ema_checkpoint(task, path))


def loading(path: str | None, load: Callable):
    """Return the result of `load`.

    Raises:
        ValueError: `load` fails; the message names the checkpoint.
    """
    try:
        return load()
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError on a broken file
        reason = f'it does not fit: {describe_mismatch(error)}' if does_not_fit(error) else one_line(error)
        raise ValueError(f'--resume {path} cannot be loaded: {reason}') from error
