"""What a run consists of."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from timm.scheduler.scheduler import Scheduler
from timm.task import TrainingTask
from timm.utils import NativeScaler
from torch import nn

from ..regularizers import DropBlockRamp
from ..task.compile_limit import Compilation
from .arguments.settings import LoopSettings
from .building.loaders import Loaders
from .callbacks import Callback, Stateful
from .checkpoints.saver import Checkpoints
from .outputs.folder import RunFolder
from .outputs.loggers import Loggers
from .outputs.progress_bar import Progress
from .position import Position
from .processes import Precision, Process


@dataclass
class Run:
    """A run that is ready to start.

    Args:
        args: The settings.
        process: The device, and this process's rank.
        precision: Types of weights and activations.
        task: Turns a batch into losses.
        loaders: Training and validation batches.
        optimizer: The optimizer.
        scaler: The loss scaler of float16.
        scheduler: The learning rate's; None where it is constant.
        eval_network: The network that is validated.
        evaluate: Returns the metrics of a network: `evaluate(run, network, title=...)`.
        metric: The metric that ranks checkpoints.
        start: Where the run starts.
        end_epoch: The number of epochs after which it ends.
        saver: Writes checkpoints; None in processes that don't write, and in dry runs.
        folder: The output folder; None as above.
        ramp: Raises DropBlock's rate.
        compilation: Watches torch.compile.
        shared_statistics: Whether processes share BatchNorm's running statistics after an epoch: `reduce` to their
            mean, `broadcast` the first process's, or not (``).
        logs: The loggers.
        callbacks: The user's own code.
        stateful: Callbacks and loggers whose state is part of checkpoints.
        saved_progress: What the checkpoint that is resumed holds of an epoch under way.
        facts: Size and cost of network and step, as of `network_facts`.
        resumed_from: Path of the checkpoint that is resumed.
    """

    args: LoopSettings
    process: Process
    precision: Precision
    task: TrainingTask
    loaders: Loaders
    optimizer: torch.optim.Optimizer
    scaler: NativeScaler | None
    scheduler: Scheduler | None
    eval_network: nn.Module
    evaluate: Callable[..., dict[str, float]]
    metric: str
    start: Position
    end_epoch: int
    saver: Checkpoints | None = None
    folder: RunFolder | None = None
    ramp: DropBlockRamp | None = None
    compilation: Compilation | None = None
    shared_statistics: str = ''
    logs: Loggers = field(default_factory=Loggers)
    callbacks: Sequence[Callback] = ()
    stateful: Sequence[Stateful] = ()
    saved_progress: dict | None = None
    facts: dict = field(default_factory=dict)
    resumed_from: str | None = None
    bar: Progress = field(init=False)

    def __post_init__(self):
        self.bar = Progress(shown=self.process.primary)

    @property
    def lower_is_better(self) -> bool:
        """Whether the best checkpoint is that of the lowest metric."""
        return self.metric == 'loss'

    @property
    def second_order(self) -> bool:
        """Whether the optimizer differentiates the gradient."""
        return getattr(self.optimizer, 'is_second_order', False)

    @property
    def batches(self) -> int:
        """Batches an epoch."""
        return len(self.loaders.train)

    @property
    def updates(self) -> int:
        """Optimizer steps an epoch."""
        return updates_per_epoch(self.batches, self.args.grad_accum_steps)

    def updates_until(self, position: Position) -> int:
        """Optimizer steps before `position`."""
        return position.epoch * self.updates + updates_per_epoch(position.batch, self.args.grad_accum_steps)

    @property
    def learning_rate(self) -> float:
        """Mean over parameter groups."""
        rates = [group['lr'] for group in self.optimizer.param_groups]
        return sum(rates) / len(rates)


def updates_per_epoch(batches: int, accumulated: int) -> int:
    """Optimizer steps an epoch; the last takes what is left."""
    return -(-batches // accumulated)


def accumulation(batch: int, batches: int, steps: int) -> tuple[int, bool]:
    """How many batches the update of `batch` sums, and whether `batch` completes it."""
    rest = batches % steps
    group = rest if batch >= batches - rest else steps
    return group, batch == batches - 1 or (batch + 1) % steps == 0
