"""A whole run from Python, without a command line."""
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist
import yaml

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
    """What a run leaves.

    Args:
        folder: The output folder; None in processes that write nothing, and of dry runs.
        epochs: For each validated epoch of this session `epoch`, from 0, and the metrics of `train` and `validation`.
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
        """The best value of the metric; None where nothing was validated."""
        values = [each.get('validation', each['train'])[self.metric] for each in self.epochs]
        return None if not values else min(values) if self.lower_is_better else max(values)


def train(
        settings: TrainSettings,
        *,
        loggers: Sequence[Logger] = (),
        callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train as train.py does with the same settings, to the same weights.

    Processes that torchrun or Slurm started train together. With `resume='auto'` and an `experiment`, a run continues
    where it was stopped, its loggers and callbacks included.

    Args:
        settings: The settings.
        loggers: Take the figures of the run, next to those that the settings name.
        callbacks: Called after updates, after validation and at checkpoints.

    Returns:
        The folder and the metrics.

    Raises:
        ValueError: Settings, data, network and files don't fit each other; says what to change.
        OSError: A file can't be read or written.
        RuntimeError: Training fails: the loss isn't finite, data or other processes are lost.
        Stopped: SIGTERM or Ctrl-C ended the run; what was trained is saved.

    Example:
        >>> from gradaug_timm import TrainSettings, train
        >>> settings = TrainSettings(
        ...     model='gradaug_resnet20_cifar', dataset='gradaug/mnist5k', data_dir='DIR', epochs=20)
        >>> result = train(settings)  # doctest: +SKIP
    """
    text = yaml.safe_dump(settings.values(), default_flow_style=False)
    args = resolve(settings)
    joined = dist.is_initialized()
    try:
        process = start_process(args.device)
        run = prepare(continue_restarted(args, process), text, process, loggers=loggers, callbacks=callbacks)
        if args.dry_run:
            dry_run(run)
            return TrainResult(None, [], run.metric, run.lower_is_better)
        epochs = run_epochs(run)
        return TrainResult(run.folder.path if run.folder else None, epochs, run.metric, run.lower_is_better)
    finally:
        if dist.is_initialized() and not joined:
            dist.destroy_process_group()
