"""A few trial steps of a run: time, memory, and the estimated time of the run."""
import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from timm.task import TrainingTask

from ...cli import one_line
from ...task.steps import SubnetSteps
from ..loop.between_steps import BetweenSteps
from ..loop.epoch import train_epoch
from ..loop.epochs import announce_epoch, check_processes
from ..position import Position
from ..run import Run, updates_per_epoch

TIMED = 3  # steps after the first
CANDIDATES = 101  # steps from which the typical one is selected
NOMINAL = 224  # image size in pixels at which steps are compared


class MemoryShortageError(RuntimeError):
    """The error that a step does not fit into the memory of the device."""


@dataclass(frozen=True)
class Measured:
    """The measurements of a few steps.

    Args:
        seconds: Seconds per update, with (True) and without (False) sub-networks.
        images: Images per update, over all processes.
        peak: Peak memory in bytes; None if it is unknown.
    """

    seconds: dict[bool, float]
    images: float
    peak: int | None

    def seconds_an_update(self, share: float) -> float:
        """Return the mean seconds if this `share` of the steps trains sub-networks."""
        return sum(part * self.seconds[kind] for kind, part in ((True, share), (False, 1 - share)) if part)


def measure(run: Run) -> Measured:
    """Train on the first batches of the run, and time all steps except the first.

    The first step has the same number of sub-networks and the same shapes as the others, so that kernels are tuned and
    compiled before the timing. Without a grid of widths, every step has new widths, as in the run.

    Raises:
        CompilationError, DataError, DisagreementError, DivergedError: As in the run.
        MemoryShortageError: A step does not fit into the memory of the device.
    """
    if run.start.batch == run.batches:  # only the validation of the epoch is left
        run = replace(run, start=Position(run.start.epoch))
    epoch = run.start.epoch
    run.loaders.start_at(run.start)
    announce_epoch(run, epoch)
    check_processes(run, run.start)
    accumulated = min(run.args.grad_accum_steps, run.batches - run.start.batch)
    loaders = run.loaders
    batches = _Batches(loaders.train, accumulated, run.task)
    run = replace(run, loaders=replace(run.loaders, train=batches), callbacks=())
    between_steps = BetweenSteps(run, position=run.start)
    steps = planned_steps(run.task, epoch)
    seconds = {True: [], False: []}
    _reset_peak(run)
    try:
        with run.compilation.guarded() if run.compilation is not None else nullcontext():
            for index, step in enumerate(steps):
                kind, taken = _time_update(run, between_steps, batches, step)
                if index:
                    seconds[kind].append(taken)
    except torch.OutOfMemoryError as error:
        raise MemoryShortageError(
            f'a step does not fit into the memory of {run.process.device} ({one_line(error, 120)}); '
            'try --amp, --grad-checkpointing or a smaller --batch-size') from error
    finally:
        loaders.end_workers()
    images = batches.images / len(steps) * run.process.world_size
    means = {kind: statistics.mean(taken) for kind, taken in seconds.items() if taken}
    return Measured(means, images, _peak(run))


def planned_steps(task: TrainingTask, epoch: int) -> list[tuple[int, int]]:
    """Return epoch and number of the trial steps: with sub-networks, and one without if the run has such steps too.

    The sub-networks are from a step of median size, in an epoch that uses all image sizes.
    """
    if not isinstance(task, SubnetSteps):
        return (1 + TIMED) * [(epoch, 0)]
    settings = task.settings
    every = settings.interval
    if settings.at(settings.size_epochs).subnets:
        epoch = max(epoch, settings.size_epochs)
    task.set_epoch(epoch)
    first = sorted(range(0, CANDIDATES * every, every), key=lambda step: _size(task, step))[CANDIDATES // 2]
    plain = [(epoch, first + 1)] if every > 1 else [(settings.off_epoch, first)] if settings.off_epoch > epoch else []
    new_widths = settings.random_width and not settings.width_steps
    return [(epoch, first + index * every * new_widths) for index in range(1 + TIMED - len(plain))] + plain


def _size(task: SubnetSteps, step: int) -> float:
    return sum(
        draw.subnet.width ** 2 * math.prod(draw.transform.output_size(NOMINAL, NOMINAL)) for draw in task.draws(step))


def _time_update(
        run: Run,
        between_steps: BetweenSteps,
        batches: '_Batches',
        step: tuple[int, int],
) -> tuple[bool, float]:
    """Train one update; return whether it had sub-networks, and the seconds."""
    task, subnets = run.task, False
    epoch, batches.step = step
    if isinstance(task, SubnetSteps):
        task.set_epoch(epoch)
        subnets = bool(task.draws(batches.step))
    _wait(run)
    started = time.perf_counter()
    train_epoch(run, run.start.epoch, between_steps, first=run.start.batch)
    _wait(run)
    return subnets, time.perf_counter() - started


class _Batches:
    """The batches of one update; each iteration yields the next ones, and all updates train the step `step`."""

    def __init__(self, loader, number: int, task: TrainingTask):
        self.loader, self.number, self.task = loader, number, task
        self.step = self.images = 0
        self._stream = itertools.chain.from_iterable(itertools.repeat(loader))

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        for batch in itertools.islice(self._stream, self.number):
            self.images += len(batch[0])
            self.task.step = self.step  # type: ignore[assignment]
            yield batch


def shares(run: Run) -> list[float]:
    """Return the share of steps with sub-networks for each remaining epoch."""
    task, epochs = run.task, range(run.start.epoch, run.end_epoch)
    if not isinstance(task, SubnetSteps):
        return [0.] * len(epochs)
    return [1 / task.settings.interval if task.settings.at(epoch).subnets else 0. for epoch in epochs]


def seconds_left(run: Run, measured: Measured) -> float:
    """Return the training time of the remaining epochs in seconds, without validation."""
    each = [measured.seconds_an_update(share) for share in shares(run)]
    trained = updates_per_epoch(run.start.batch, run.args.grad_accum_steps)
    return sum(each) * run.updates - each[0] * trained


def _wait(run: Run) -> None:
    if run.process.device.type != 'cpu':
        torch.accelerator.synchronize()


def _reset_peak(run: Run) -> None:
    if run.process.device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(run.process.device)


def _peak(run: Run) -> int | None:
    """Return the peak memory in bytes, of tensors on a CUDA device or of the process; None if it is unknown."""
    if run.process.device.type == 'cuda':
        return torch.cuda.max_memory_allocated(run.process.device)
    try:
        import resource
    except ImportError:  # on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
