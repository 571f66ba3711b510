"""The parts of a run."""
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
        process: The device and the rank of this process.
        precision: Types of weights and activations.
        task: The task, which computes losses from a batch.
        loaders: Training and validation batches.
        optimizer: The optimizer.
        scaler: The loss scaler of float16.
        scheduler: The learning rate schedule; None if the rate is constant.
        eval_network: The network that is validated.
        evaluate: Returns the metrics of a network: `evaluate(run, network, title=...)`.
        metric: The metric that ranks checkpoints.
        start: Where the run starts.
        end_epoch: The number of epochs after which the run ends.
        saver: Writes checkpoints; None in processes that do not write, and in dry runs.
        folder: The output folder; None in processes that do not write, and in dry runs.
        ramp: The ramp of DropBlock's rate.
        compilation: The monitor of torch.compile.
        shared_statistics: How processes share the running statistics of BatchNorm after an epoch: `reduce` takes the
            mean of all processes, `broadcast` the statistics of the first; empty: not at all.
        logs: The loggers.
        callbacks: Callbacks of the user.
        stateful: Callbacks and loggers whose state is part of checkpoints.
        saved_progress: Progress within an epoch, from the checkpoint to resume.
        facts: Size and cost of the network and of a step, from `network_facts`.
        resumed_from: Path of the checkpoint to resume.
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
        """Whether the best checkpoint is the one with the lowest metric."""
        return self.metric == 'loss'

    @property
    def second_order(self) -> bool:
        """Whether the optimizer differentiates the gradient."""
        return getattr(self.optimizer, 'is_second_order', False)

    @property
    def batches(self) -> int:
        """Batches per epoch."""
        return len(self.loaders.train)

    @property
    def updates(self) -> int:
        """Optimizer steps per epoch."""
        return updates_per_epoch(self.batches, self.args.grad_accum_steps)

    def updates_until(self, position: Position) -> int:
        """Return the number of optimizer steps before `position`."""
        return position.epoch * self.updates + updates_per_epoch(position.batch, self.args.grad_accum_steps)

    @property
    def learning_rate(self) -> float:
        """Mean learning rate of the parameter groups."""
        rates = [group['lr'] for group in self.optimizer.param_groups]
        return sum(rates) / len(rates)


def updates_per_epoch(batches: int, accumulated: int) -> int:
    """Return the optimizer steps per epoch; the last one takes the remaining batches."""
    return -(-batches // accumulated)


def accumulation(batch: int, batches: int, steps: int) -> tuple[int, bool]:
    """Return how many batches the update of `batch` accumulates, and whether `batch` is the last of them."""
    rest = batches % steps
    group = rest if batch >= batches - rest else steps
    return group, batch == batches - 1 or (batch + 1) % steps == 0
