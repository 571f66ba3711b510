"""Actions between the steps of an epoch: writing checkpoints, stopping, and detecting lost data workers."""
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
    """The error that no further training images can be read."""


class BetweenSteps:
    """The part of the loop that writes checkpoints when they are due and stops the run when necessary.

    Args:
        run: The run.
        listener: Records signals; it must be listening.
        position: Where the run starts.
    """

    def __init__(self, run: Run, listener: Listener | None = None, position: Position | None = None):
        self.run, self.listener, self.position = run, listener or Listener(), position or Position()
        network = network_of(run.task)
        self.health = NonfiniteMonitor(
            network, run.scaler, run.args.nonfinite_limit, distributed=run.process.distributed)
        self._agreement = SignalAgreement(run.process)
        self._saved_at, self._saved = time.monotonic(), self.position

    def batches(self, batches: Iterable, position: Position, meter: EpochMeter) -> Iterator:
        """Yield the batches of an epoch from `position` on; write a checkpoint if reading fails.

        Raises:
            DataError: The batches cannot be read.
        """
        self.position = position
        try:
            for batch in batches:
                self.listener.defer_worker_failures()
                yield batch
        except (OSError, RuntimeError, ValueError) as error:
            if self.run.args.grad_accum_steps == 1:  # else the meter has losses of an unfinished update
                self._rescue(meter)
            raise DataError(f'reading training images failed: {one_line(error, None)}') from error

    def after_update(self, position: Position, updates: int, meter: EpochMeter) -> None:
        """Write a checkpoint or stop the run if necessary; `updates` is the number of updates so far.

        Raises:
            DataError: A data worker has died.
            Stopped: A signal came.
        """
        self.position = position
        signal, due = self._agreement.highest(self.listener.signal, self._is_due(updates))
        if signal or due:
            self.save(position, meter)
        if signal:
            gather(self.run.process, None)  # one process is saving, and launchers kill it once another ends
            raise Stopped(signal)
        if self.listener.failure is not None:
            self._rescue(meter)
            raise DataError(self.listener.failure)

    def save(
            self,
            position: Position,
            meter: EpochMeter | None = None,
            *,
            metric: float | None = None,
            announced: bool = True,
    ) -> None:
        """Write the checkpoint, within an epoch only if the loader can resume at a batch; all processes must call it.

        Args:
            position: The progress of the run.
            meter: Losses of the epoch so far; None at its end.
            metric: The metric of the epoch, at its end.
            announced: Whether to call the callbacks.

        Raises:
            DivergedError: The checkpoint would contain values that are not finite.
        """
        run = self.run
        if meter is not None and not run.loaders.by_batch:
            return
        when = f'in epoch {position.epoch}, batch {position.batch}' if meter else f'after epoch {position.epoch - 1}'
        self.health.check(when)
        kept = first_nonfinite(network_of(run.task))
        if kept is not None:
            raise DivergedError(f'{kept} is no longer finite {when}; {REMEDY}')
        progress = gather(run.process, self._own_progress(meter))
        run.logs.flush()
        path = None
        if run.saver is not None:
            path = run.saver.save(
                position, metric=metric, progress={'processes': progress}, callbacks=states_of(run.stateful))
        for callback in run.callbacks if announced else ():
            callback.at_checkpoint(run, path)
        self._saved_at, self._saved = time.monotonic(), position

    def save_trained(self, epoch: int, meter: EpochMeter) -> None:
        """Write the checkpoint of a trained epoch before its validation, which may fail; resuming repeats validation.

        If the loader cannot resume at a batch, the run would resume at the next epoch.

        Args:
            epoch: Number of the epoch.
            meter: Losses of the epoch.
        """
        position = Position(epoch, self.run.batches)
        if not self.run.loaders.by_batch:
            self.save(Position(epoch + 1), announced=False)
        elif position != self._saved:
            self.save(position, meter, announced=False)

    def _rescue(self, meter: EpochMeter) -> None:
        """Write a checkpoint, which is possible without the other processes only if there are none."""
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
        if self.run.process.distributed:  # each process has its own; those of the first are also in the network's state
            progress['buffers'] = [
                {name: buffer.cpu() for name, buffer in network.named_buffers()} for network in _networks(self.run)]
        return progress


def restore_progress(run: Run, progress: dict | None) -> EpochMeter | None:
    """Restore the progress of this process within an epoch; return the losses so far, or None."""
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
