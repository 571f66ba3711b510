"""One epoch of training, with timm's interface of tasks."""
import logging
import time
from contextlib import nullcontext
from typing import Any

import torch
from timm.utils import dispatch_clip_grad

from ...seeding import seed_all, seed_of
from ..building.tasks import network_of
from ..outputs.input_pictures import draw_inputs, network_inputs
from ..position import Position
from ..run import Run, accumulation
from .between_steps import BetweenSteps, DataError
from .meters import EpochMeter, LossMeter
from .nonfinite import finite_gradients

_logger = logging.getLogger(__name__)


def train_epoch(
        run: Run,
        epoch: int,
        between_steps: BetweenSteps | None = None,
        *,
        first: int = 0,
        meter: EpochMeter | None = None,
) -> dict[str, float]:
    """Train on all batches once, or on the rest of an epoch that was stopped.

    All random draws for a batch follow from the seed, the process, the epoch and the number of the batch.

    Args:
        run: The run.
        epoch: Number of the epoch.
        between_steps: Writes checkpoints and stops between steps.
        first: Number of batches of the epoch that are already trained.
        meter: The losses of these batches.

    Returns:
        The mean of each loss that the task returned.

    Raises:
        DataError: No further images can be read.
        DivergedError: The loss is no longer finite.
        Stopped: A signal ended the run.
    """
    args, task = run.args, run.task
    run.loaders.end_mixing(Position(epoch, first))
    network_of(task).train()
    run.optimizer.zero_grad()
    between_steps, meter = between_steps or BetweenSteps(run), meter or EpochMeter()
    clock = _Clock(run, epoch, between_steps, meter)
    updates = run.updates_until(Position(epoch, first))
    _advance_ramp(run, updates)
    batches = between_steps.batches(run.loaders.train, Position(epoch, first), meter)
    batches = run.bar.over(batches, run.batches - first, f'Epoch {epoch}')
    for batch, (images, target) in enumerate(batches, first):
        seed_all(seed_of(args.seed, 'batch', run.process.rank, epoch, batch))
        images, target = _prepare(run, images, target)
        summed, complete = accumulation(batch, run.batches, args.grad_accum_steps)
        losses = _step(run, between_steps, images, target, summed, complete)
        meter.update(losses, len(images))
        clock.images += len(images)
        between_steps.health.update(losses['loss'], updated=complete)
        if not complete:
            continue
        updates += 1
        _advance_ramp(run, updates)
        run.optimizer.zero_grad()
        task.update_ema(step=updates)
        _after_update(run, batch, images, updates, clock)
        if run.scheduler is not None:
            run.scheduler.step_update(num_updates=updates)
        for callback in run.callbacks:
            callback.after_update(run, updates, losses)
        between_steps.after_update(Position(epoch, batch + 1), updates, meter)
    if not meter.images:
        raise DataError(f'epoch {epoch} has no batch: the training split has no image that can be read')
    if hasattr(run.optimizer, 'sync_lookahead'):
        run.optimizer.sync_lookahead()
    return meter.compute(distributed=run.process.distributed)


def _advance_ramp(run: Run, updates: int) -> None:
    if run.ramp is not None:
        run.ramp.set(updates)


def _prepare(run: Run, images: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if not run.loaders.on_device:
        images = images.to(run.process.device, run.precision.model_dtype)
        target = target.to(run.process.device)
    if run.loaders.mixup is not None:
        images, target = run.loaders.mixup(images, target)
    if run.args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, target


def _step(
        run: Run,
        between_steps: BetweenSteps,
        images: torch.Tensor,
        target: torch.Tensor,
        summed: int,
        complete: bool,
) -> dict[str, torch.Tensor]:
    """Run forward and backward of one batch, and the update if `complete`; return the losses by name."""
    with nullcontext() if complete else run.task.no_sync():
        with run.precision.autocast():
            result = run.task(images, target)
        factor = run.loaders.weight(len(images)) / summed
        _backward(run, between_steps, result['loss'] if factor == 1 else result['loss'] * factor, complete)
    return {name: value.detach() for name, value in result.items() if _is_loss(name, value)}


def _is_loss(name: str, value: Any) -> bool:
    return name != 'output' and isinstance(value, torch.Tensor) and value.ndim == 0


def _backward(run: Run, between_steps: BetweenSteps, loss: torch.Tensor, complete: bool) -> None:
    args = run.args
    clipped = run.task.get_clip_parameters(exclude_head=args.clip_mode == 'agc') if args.clip_grad else None
    if run.scaler is not None:
        run.scaler(
            loss,
            run.optimizer,
            clip_grad=args.clip_grad,
            clip_mode=args.clip_mode,
            parameters=clipped,
            create_graph=run.second_order,
            need_update=complete,
        )
        return
    loss.backward(create_graph=run.second_order)
    if complete and between_steps.health.skips and not finite_gradients(network_of(run.task)):
        between_steps.health.leave_out()
    elif complete:
        if args.clip_grad:
            dispatch_clip_grad(clipped, value=args.clip_grad, mode=args.clip_mode)
        run.optimizer.step()


def _after_update(run: Run, batch: int, images, updates: int, clock: '_Clock') -> None:
    args = run.args
    update, last = batch // args.grad_accum_steps, batch == run.batches - 1
    if args.synchronize_step and run.process.device.type != 'cpu':
        torch.accelerator.synchronize()
    if last or update % args.log_interval == 0:
        clock.report(batch, updates)
        if args.save_images and run.folder is not None and update == 0:
            picture = draw_inputs(network_inputs(run.task, images), *run.loaders.normalization)
            run.logs.image('inputs', picture, updates)


class _Clock:
    """Reports of losses and speed; the only part of an epoch that waits for the device."""

    def __init__(self, run: Run, epoch: int, between_steps: BetweenSteps, meter: EpochMeter):
        self.run, self.epoch, self.between_steps, self.meter = run, epoch, between_steps, meter
        self._restart()

    def _restart(self):
        self.images, self.started = 0, time.perf_counter()

    def report(self, batch: int, updates: int):
        run, update = self.run, batch // self.run.args.grad_accum_steps + 1
        self.between_steps.health.check(f'in epoch {self.epoch}, by update {update}')
        now, mean = (each.compute(distributed=run.process.distributed) for each in (self.meter.recent, self.meter))
        speed = self.images * run.process.world_size / (time.perf_counter() - self.started)
        if run.bar.active:
            losses = ', '.join(f'{name} {value:#.4g}' for name, value in mean.items())
            run.bar.note(f'{losses}, {speed:.0f} img/s')
        elif run.process.primary:
            losses = '  '.join(f'{name}: {now[name]:#.4g} ({mean[name]:#.4g})' for name in now)
            _logger.info(
                f'Train: {self.epoch} [{update:>4d}/{run.updates}]  {losses}  '
                f'{speed:.1f} img/s  LR: {run.learning_rate:.3e}')
        values = {'epoch': self.epoch, **now, 'lr': run.learning_rate, 'images_per_second': round(speed, 1)}
        run.logs.log({f'step/{name}': value for name, value in values.items()}, updates)
        self.meter.recent = LossMeter()
        self._restart()
