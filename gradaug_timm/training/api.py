"""Training from Python, without a command line."""
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
import yaml

from ..cli import import_named
from ..flags import changed
from .arguments import TrainSettings, resolve
from .callbacks import Callback
from .dry_run.report import dry_run
from .loop.epochs import run_epochs
from .main import continue_restarted
from .outputs.loggers import Logger
from .prepare import prepare
from .processes import start_process


@dataclass(frozen=True)
class TrainResult:
    """The result of a run.

    Args:
        folder: The output folder; None in processes that write nothing and after dry runs.
        epochs: A dictionary for each validated epoch of this session: `epoch`, from 0, and the metrics of `train` and
            `validation`.
        metric: The metric that ranks checkpoints.
        lower_is_better: Whether the best checkpoint is the one with the lowest metric.

    Example:
        >>> from gradaug_timm import TrainResult
        >>> TrainResult('run', [{'epoch': 0, 'train': {'loss': 2.}, 'validation': {'top1': 91.5}}]).best
        91.5
    """

    folder: str | None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    metric: str = 'top1'
    lower_is_better: bool = False

    @property
    def best(self) -> float | None:
        """The best value of the metric; None if no epoch was validated."""
        values = [each.get('validation', each['train'])[self.metric] for each in self.epochs]
        return None if not values else min(values) if self.lower_is_better else max(values)


def train(
        settings: TrainSettings,
        *,
        loggers: Sequence[Logger] = (),
        callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train a network as train.py does: the same settings give the same weights.

    Processes started by torchrun or Slurm train together. With `resume='auto'` and an `experiment`, a stopped run
    resumes, including its loggers and callbacks.

    Args:
        settings: The settings.
        loggers: Loggers of the user, in addition to the loggers that the settings name.
        callbacks: Called after updates, after validation and at checkpoints.

    Returns:
        The folder and the metrics.

    Raises:
        ValueError: Settings, data, network and files do not fit together; the message says what to change.
        OSError: A file cannot be read or written.
        RuntimeError: Training fails: the loss is not finite, or data or other processes are lost.
        Stopped: SIGTERM or Ctrl-C ended the run; a checkpoint was written.

    Example:
        >>> from gradaug_timm import TrainSettings, train
        >>> settings = TrainSettings(
        ...     model='gradaug_resnet20_cifar', dataset='gradaug/mnist5k', data_dir='DIR', epochs=20)
        >>> result = train(settings)  # doctest: +SKIP
    """
    _check(settings, loggers, callbacks)
    import_named(settings.device_modules or ())
    if settings.threads:
        torch.set_num_threads(settings.threads)
    text = yaml.safe_dump(settings.values(), default_flow_style=False)
    args = resolve(replace(settings, origins=dict.fromkeys(changed(settings), 'Python')))
    joined, run = dist.is_initialized(), None
    try:
        process = start_process(args.device)
        run = prepare(continue_restarted(args, process), text, process, loggers=loggers, callbacks=callbacks)
        if args.dry_run:
            dry_run(run)
            return TrainResult(None, [], run.metric, run.lower_is_better)
        epochs = run_epochs(run)
        return TrainResult(run.folder.path if run.folder else None, epochs, run.metric, run.lower_is_better)
    finally:
        if run is not None and run.folder is not None:
            run.folder.release()
        if dist.is_initialized() and not joined:
            dist.destroy_process_group()


def _check(settings: TrainSettings, loggers: Sequence[Logger], callbacks: Sequence[Callback]) -> None:
    if not isinstance(settings, TrainSettings):
        raise ValueError(f'settings must be TrainSettings, not {type(settings).__name__}')
    for name, given, kind in (('loggers', loggers, Logger), ('callbacks', callbacks, Callback)):
        wrong = [each for each in given if not isinstance(each, kind)] if isinstance(given, (list, tuple)) else [given]
        if wrong:
            raise ValueError(f'{name} must be a list of objects of {kind.__name__}, it holds {wrong[0]!r:.80}')
