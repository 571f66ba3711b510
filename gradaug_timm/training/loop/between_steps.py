"""What happens between the steps of an epoch: checkpoints, stops, and a look at what may have been lost."""
import logging
import time
from collections.abc import Iterable, Iterator

import torch
from timm.utils import unwrap_model
from torch import nn

from ...cli import one_line
from ..agreement import SignalAgreement, gather
from ..building.tasks import network_of
from ..callbacks import states_of
from ..position import Position
from ..run import Run
from .meters import EpochMeter
from .nonfinite import REMEDY, DivergedError, NonfiniteMonitor, first_nonfinite
from .signals import Listener, Stopped

_logger = logging.getLogger(__name__)


class DataError(RuntimeError):
    """The training images can't be read any further."""


class BetweenSteps:
    """Saves a run when it is due, and ends it when it has to end.

    Args:
        run: The run.
        listener: Notes signals; it must be listening.
        position: Where the run starts.
    """

    def __init__(self, run: Run, listener: Listener | None = None, position: Position | None = None):
        self.run, self.listener, self.position = run, listener or Listener(), position or Position()
        network = network_of(run.task)
        self.health = NonfiniteMonitor(
            network, run.scaler, run.args.nonfinite_limit, distributed=run.process.distributed)
        self._agreement = SignalAgreement(run.process)
        self._saved_at = time.monotonic()

    def batches(self, batches: Iterable, position: Position, meter: EpochMeter) -> Iterator:
        """The batches of an epoch from `position` on; what was trained is saved where they can't be read.

        Raises:
            DataError: They can't be read.
        """
        self.position = position
        try:
            for batch in batches:
                self.listener.defer_worker_failures()
                yield batch
        except (OSError, RuntimeError) as error:
            if self.run.args.grad_accum_steps == 1:  # else losses of batches whose update is missing were added
                self._rescue(meter)
            raise DataError(f'reading training images failed: {one_line(error, None)}') from error

    def after_update(self, position: Position, updates: int, meter: EpochMeter) -> None:
        """Saves and ends the run where that is due; `updates` is the number of those until now.

        Raises:
            DataError: A data worker has died.
            Stopped: A signal came.
        """
        self.position = position
        signal, due = self._agreement.highest(self.listener.signal, self._is_due(updates))
        if signal or due:
            self.save(position, meter)
        if signal:
            gather(self.run.process, None)  # launchers end the others when one is gone, and one of them is saving
            raise Stopped(signal)
        if self.listener.failure is not None:
            self._rescue(meter)
            raise DataError(self.listener.failure)

    def save(self, position: Position, meter: EpochMeter | None = None, *, metric: float | None = None) -> None:
        """Writes the checkpoint; all processes must take part. Within an epoch only if it can be gone on with there.

        Args:
            position: How far the run has come.
            meter: Losses of the epoch until now; None at its end.
            metric: The metric of the epoch, at its end.

        Raises:
            DivergedError: What would be saved isn't finite.
        """
        run = self.run
        if meter is not None and not run.loaders.by_batch:
            return
        when = f'in epoch {position.epoch}, batch {position.batch}' if meter else f'after epoch {position.epoch - 1}'
        self.health.check(when)
        kept = first_nonfinite(network_of(run.task))
        if kept is not None:
            raise DivergedError(f'{kept} is no longer finite {when}: {REMEDY}')
        progress = gather(run.process, self._own_progress(meter))
        run.logs.flush()
        path = None
        if run.saver is not None:
            path = run.saver.save(
                position, metric=metric, progress={'processes': progress}, callbacks=states_of(run.stateful))
        for callback in run.callbacks:
            callback.at_checkpoint(run, path)
        self._saved_at = time.monotonic()

    def _rescue(self, meter: EpochMeter) -> None:
        """Saves without the other processes, where there are none."""
        if not self.run.process.distributed:
            self.save(self.position, meter)

    def _is_due(self, updates: int) -> bool:
        args = self.run.args
        steps = args.checkpoint_steps or args.recovery_interval
        if steps and updates % steps == 0:
            return True
        minutes = args.checkpoint_minutes
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def _own_progress(self, meter: EpochMeter | None) -> dict:
        progress: dict = {} if meter is None else {'meter': meter.state_dict()}
        if self.run.process.distributed:  # the primary process's are in the checkpoint; each has its own
            progress['buffers'] = [
                {name: buffer.cpu() for name, buffer in network.named_buffers()} for network in _networks(self.run)]
        return progress


def restore_progress(run: Run, progress: dict | None) -> EpochMeter | None:
    """Puts back what `BetweenSteps.save` kept for this process; returns the losses of an epoch under way."""
    if not progress or len(progress['processes']) != run.process.world_size:
        return None
    own = progress['processes'][run.process.rank]
    for network, buffers in zip(_networks(run), own.get('buffers', ())):
        _load_buffers(network, buffers)
    if 'meter' not in own:
        return None
    meter = EpochMeter()
    meter.load_state_dict(own['meter'], run.process.device)
    return meter


def _networks(run: Run) -> list[nn.Module]:
    task = run.task
    wrapped = [network_of(task), *([network_of(task, ema=True)] if task.has_ema() else [])]
    return [unwrap_model(network) for network in wrapped]


@torch.no_grad()
def _load_buffers(network: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    own = dict(network.named_buffers())
    for name, value in buffers.items():
        own[name].copy_(value)
