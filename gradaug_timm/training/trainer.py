"""What the epochs of a run share."""
import argparse
from dataclasses import dataclass, field

import torch
from timm.scheduler.scheduler import Scheduler
from timm.task import TrainingTask
from timm.utils import NativeScaler

from ..regularizers import DropBlockRamp
from .checkpoints import Checkpoints
from .folder import RunFolder
from .host import Host, Precision
from .loaders import Loaders
from .loggers import Loggers
from .position import Position
from .progress import Progress


@dataclass
class Trainer:
    """What an epoch needs; `saver`, `folder` and `logs` are the primary process's, `ramp` is DropBlock's."""

    args: argparse.Namespace
    host: Host
    precision: Precision
    task: TrainingTask
    loaders: Loaders
    optimizer: torch.optim.Optimizer
    scaler: NativeScaler | None
    scheduler: Scheduler | None
    saver: Checkpoints | None
    folder: RunFolder | None
    ramp: DropBlockRamp | None = None
    logs: Loggers = field(default_factory=Loggers)
    progress: Progress = field(init=False)

    def __post_init__(self):
        self.progress = Progress(shown=self.host.primary)

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
