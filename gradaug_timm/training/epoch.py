"""One epoch of training, by timm's contract with its tasks."""
import logging
import os
import time
from contextlib import nullcontext
from typing import Any

import torch
import torchvision.utils
from timm.utils import dispatch_clip_grad

from ..randomness import seed_all, seed_of
from .control import Control
from .health import finite_gradients
from .meters import LossMeter
from .position import Position
from .trainer import Trainer, accumulation, updates_per_epoch

_logger = logging.getLogger(__name__)


def train_epoch(
        trainer: Trainer,
        epoch: int,
        control: Control | None = None,
        *,
        first: int = 0,
        meter: LossMeter | None = None,
) -> dict[str, float]:
    """Trains over all batches once, or over the rest of an epoch that was stopped.

    All that is random in a batch follows from the seed, the process, the epoch and the number of the batch.

    Args:
        trainer: The run.
        epoch: Number of the epoch.
        control: Saves and stops between steps.
        first: Batches of the epoch that are trained already.
        meter: Their losses.

    Returns:
        The mean of each loss that the task returned.

    Raises:
        DataError: The images can't be read any further.
        DivergedError: The loss is no longer finite.
        Stopped: A signal ended the run.
    """
    args, task = trainer.args, trainer.task
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        trainer.loaders.stop_mixing(Position(epoch, first))
    task.get_trainable_module().train()
    trainer.optimizer.zero_grad()
    control, meter = control or Control(trainer), meter or LossMeter()
    clock = _Clock(trainer, epoch, control)
    updates = epoch * trainer.updates + updates_per_epoch(first, args.grad_accum_steps)
    _advance_ramp(trainer, updates)
    batches = control.batches(trainer.loaders.train, Position(epoch, first), meter)
    batches = trainer.progress.over(batches, trainer.batches - first, f'Epoch {epoch}')
    for batch, (images, target) in enumerate(batches, first):
        seed_all(seed_of(args.seed, 'batch', trainer.host.rank, epoch, batch))
        images, target = _prepare(trainer, images, target)
        summed, complete = accumulation(batch, trainer.batches, args.grad_accum_steps)
        losses = _step(trainer, control, images, target, summed, complete)
        meter.update(losses, len(images))
        clock.update(losses, len(images))
        control.health.update(losses['loss'], updated=complete)
        if not complete:
            continue
        updates += 1
        _advance_ramp(trainer, updates)
        trainer.optimizer.zero_grad()
        task.update_ema(step=updates)
        _after_update(trainer, batch, images, meter, clock)
        if trainer.scheduler is not None:
            trainer.scheduler.step_update(num_updates=updates)
        control.after_update(Position(epoch, batch + 1), updates, meter)
    if hasattr(trainer.optimizer, 'sync_lookahead'):
        trainer.optimizer.sync_lookahead()
    return meter.compute(distributed=trainer.host.distributed)


def _advance_ramp(trainer: Trainer, updates: int) -> None:
    if trainer.ramp is not None:
        trainer.ramp.set(updates)


def _prepare(trainer: Trainer, images: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if trainer.args.no_prefetcher:
        images = images.to(trainer.host.device, trainer.precision.model_dtype)
        target = target.to(trainer.host.device)
    if trainer.loaders.mixup is not None:
        images, target = trainer.loaders.mixup(images, target)
    if trainer.args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, target


def _step(trainer: Trainer, control: Control, images, target, summed: int, complete: bool) -> dict[str, torch.Tensor]:
    """Forward and backward of one batch, and the update where `complete`; returns the losses by name."""
    with nullcontext() if complete else trainer.task.no_sync():
        with trainer.precision.autocast():
            result = trainer.task(images, target)
        factor = _loss_factor(trainer, len(images)) / summed
        _backward(trainer, control, result['loss'] if factor == 1 else result['loss'] * factor, complete)
    return {name: value.detach() for name, value in result.items() if _is_loss(name, value)}


def _is_loss(name: str, value: Any) -> bool:
    return name != 'output' and isinstance(value, torch.Tensor) and value.ndim == 0


def _loss_factor(trainer: Trainer, images: int) -> float:
    """Weight of a batch whose size changes from step to step."""
    mode = trainer.args.variable_batch_loss_scale
    if mode == 'none' or trainer.args.train_img_sizes is None:
        return 1.
    ratio = images / trainer.loaders.batch_size
    return ratio if mode == 'linear' else ratio ** 0.5


def _backward(trainer: Trainer, control: Control, loss: torch.Tensor, complete: bool) -> None:
    args = trainer.args
    clipped = trainer.task.get_clip_parameters(exclude_head=args.clip_mode == 'agc') if args.clip_grad else None
    if trainer.scaler is not None:
        trainer.scaler(
            loss,
            trainer.optimizer,
            clip_grad=args.clip_grad,
            clip_mode=args.clip_mode,
            parameters=clipped,
            create_graph=trainer.second_order,
            need_update=complete,
        )
        return
    loss.backward(create_graph=trainer.second_order)
    if complete and control.health.skips and not finite_gradients(trainer.task.get_trainable_module()):
        control.health.leave_out()
    elif complete:
        if args.clip_grad:
            dispatch_clip_grad(clipped, value=args.clip_grad, mode=args.clip_mode)
        trainer.optimizer.step()


def _after_update(trainer: Trainer, batch: int, images, meter: LossMeter, clock: '_Clock') -> None:
    args = trainer.args
    update, last = batch // args.grad_accum_steps, batch == trainer.batches - 1
    if args.synchronize_step and trainer.host.device.type != 'cpu':
        torch.accelerator.synchronize()
    if last or update % args.log_interval == 0:
        clock.report(update, meter)
        if args.save_images and trainer.folder is not None:
            path = os.path.join(trainer.folder.path, f'train-batch-{update}.jpg')
            torchvision.utils.save_image(images, path, padding=0, normalize=True)


class _Clock:
    """Losses and speed since the last report; the only place of an epoch that waits for the device."""

    def __init__(self, trainer: Trainer, epoch: int, control: Control):
        self.trainer, self.epoch, self.control = trainer, epoch, control
        self._restart()

    def _restart(self):
        self.recent, self.images, self.started = LossMeter(), 0, time.perf_counter()

    def update(self, losses: dict[str, torch.Tensor], images: int):
        self.recent.update(losses, images)
        self.images += images * self.trainer.host.world_size

    def report(self, update: int, meter: LossMeter):
        distributed = self.trainer.host.distributed
        self.control.health.check(f'in epoch {self.epoch}, by update {update + 1}')
        now, mean = self.recent.compute(distributed=distributed), meter.compute(distributed=distributed)
        losses = '  '.join(f'{name}: {now[name]:#.4g} ({mean[name]:#.4g})' for name in now)
        speed = self.images / (time.perf_counter() - self.started)
        if self.trainer.progress.active:
            self.trainer.progress.note(f'loss {mean["loss"]:#.4g}, {speed:.0f} img/s')
        elif self.trainer.host.primary:
            _logger.info(
                f'Train: {self.epoch} [{update + 1:>4d}/{self.trainer.updates}]  {losses}  '
                f'{speed:.1f} img/s  LR: {self.trainer.learning_rate:.3e}')
        self._restart()
