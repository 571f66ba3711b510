"""One epoch of training, by timm's contract with its tasks."""
import logging
import time
from contextlib import nullcontext
from typing import Any

import torch
from timm.utils import dispatch_clip_grad

from ..randomness import seed_all, seed_of
from .control import Control
from .health import finite_gradients
from .meters import EpochMeter, LossMeter
from .pictures import draw_inputs, network_inputs
from .position import Position
from .trainer import Trainer, accumulation

_logger = logging.getLogger(__name__)


def train_epoch(
        trainer: Trainer,
        epoch: int,
        control: Control | None = None,
        *,
        first: int = 0,
        meter: EpochMeter | None = None,
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
    control, meter = control or Control(trainer), meter or EpochMeter()
    clock = _Clock(trainer, epoch, control, meter)
    updates = trainer.updates_until(Position(epoch, first))
    _advance_ramp(trainer, updates)
    batches = control.batches(trainer.loaders.train, Position(epoch, first), meter)
    batches = trainer.progress.over(batches, trainer.batches - first, f'Epoch {epoch}')
    for batch, (images, target) in enumerate(batches, first):
        seed_all(seed_of(args.seed, 'batch', trainer.host.rank, epoch, batch))
        images, target = _prepare(trainer, images, target)
        summed, complete = accumulation(batch, trainer.batches, args.grad_accum_steps)
        losses = _step(trainer, control, images, target, summed, complete)
        meter.update(losses, len(images))
        clock.images += len(images)
        control.health.update(losses['loss'], updated=complete)
        if not complete:
            continue
        updates += 1
        _advance_ramp(trainer, updates)
        trainer.optimizer.zero_grad()
        task.update_ema(step=updates)
        _after_update(trainer, batch, images, updates, clock)
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


def _after_update(trainer: Trainer, batch: int, images, updates: int, clock: '_Clock') -> None:
    args = trainer.args
    update, last = batch // args.grad_accum_steps, batch == trainer.batches - 1
    if args.synchronize_step and trainer.host.device.type != 'cpu':
        torch.accelerator.synchronize()
    if last or update % args.log_interval == 0:
        clock.report(batch, updates)
        if args.save_images and trainer.folder is not None and update == 0:
            picture = draw_inputs(network_inputs(trainer.task, images), *trainer.loaders.normalization)
            trainer.logs.image('inputs', picture, updates)


class _Clock:
    """Losses and speed since the last report; the only place of an epoch that waits for the device."""

    def __init__(self, trainer: Trainer, epoch: int, control: Control, meter: EpochMeter):
        self.trainer, self.epoch, self.control, self.meter = trainer, epoch, control, meter
        self._restart()

    def _restart(self):
        self.images, self.started = 0, time.perf_counter()

    def report(self, batch: int, updates: int):
        trainer, update = self.trainer, batch // self.trainer.args.grad_accum_steps + 1
        self.control.health.check(f'in epoch {self.epoch}, by update {update}')
        now, mean = (each.compute(distributed=trainer.host.distributed) for each in (self.meter.recent, self.meter))
        speed = self.images * trainer.host.world_size / (time.perf_counter() - self.started)
        if trainer.progress.active:
            losses = ', '.join(f'{name} {value:#.4g}' for name, value in mean.items())
            trainer.progress.note(f'{losses}, {speed:.0f} img/s')
        elif trainer.host.primary:
            losses = '  '.join(f'{name}: {now[name]:#.4g} ({mean[name]:#.4g})' for name in now)
            _logger.info(
                f'Train: {self.epoch} [{update:>4d}/{trainer.updates}]  {losses}  '
                f'{speed:.1f} img/s  LR: {trainer.learning_rate:.3e}')
        values = {'epoch': self.epoch, **now, 'lr': trainer.learning_rate, 'images_per_second': round(speed, 1)}
        trainer.logs.log({f'step/{name}': value for name, value in values.items()}, updates)
        self.meter.recent = LossMeter()
        self._restart()
