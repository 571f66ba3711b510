"""The epochs of a run: training, validation, checkpoints, and the table of results."""
import logging
import statistics
import time
from contextlib import nullcontext

from timm.utils import distribute_bn

from ...task.steps import SubnetSteps
from ..agreement import check_alike
from ..outputs.curves import CurvesInRun
from ..outputs.folder import append_row
from ..position import Position
from ..run import Run
from .between_steps import BetweenSteps, restore_progress
from .epoch import train_epoch
from .meters import EpochMeter
from .signals import Listener

_logger = logging.getLogger(__name__)

CHECKED_STEPS = 32  # steps whose sub-networks the processes compare
OWN_FLAGS = ('local_rank', 'device')  # flags that may differ between processes


def run_epochs(run: Run) -> list[dict]:
    """Train the remaining epochs.

    Returns:
        A dictionary for each validated epoch: its number, and the training and validation metrics.

    Raises:
        CompilationError: torch.compile needs more graphs than expected.
        DataError: No further training images can be read.
        DivergedError: The loss is no longer finite.
        Stopped: A signal ended the run.
        DisagreementError: The processes were started differently.
        OSError: A file cannot be written.
    """
    listener = Listener()
    guarded = run.compilation.guarded() if run.compilation is not None else nullcontext()
    try:
        with run.logs, listener.listening(), guarded:
            return _run_epochs(run, BetweenSteps(run, listener, run.start))
    finally:
        run.loaders.end_workers()


def _run_epochs(run: Run, between_steps: BetweenSteps) -> list[dict]:
    results, seconds = [], []
    curves = CurvesInRun(run.folder, run.metric) if run.folder is not None else None
    first, meter = run.start.batch, restore_progress(run, run.saved_progress)
    run.loaders.start_at(run.start)
    if not run.loaders.by_batch:
        _logger.info('If the run is stopped within an epoch, it resumes at the beginning of that epoch: iterable data '
                     'sets and --use-multi-epochs-loader cannot resume at a batch.')
    if run.start.epoch >= run.end_epoch:
        check_processes(run, run.start)  # another machine may not find the checkpoint, and start from the beginning
    for epoch in range(run.start.epoch, run.end_epoch):
        announce_epoch(run, epoch)
        check_processes(run, Position(epoch, first))
        started, meter = time.perf_counter(), meter or EpochMeter()
        train_metrics = train_epoch(run, epoch, between_steps, first=first, meter=meter)
        seconds.append(time.perf_counter() - started)
        _report_skipped(run, epoch)
        evaluated, metric, rate = _is_evaluated(run, epoch + 1), None, run.learning_rate
        if evaluated and run.loaders.validation is not None:
            between_steps.save_trained(epoch, meter)
        first, meter = 0, None
        _share_statistics(run, run.task.get_trainable_module())
        if evaluated:
            validation = _validate(run)
            metric = (validation or train_metrics)[run.metric]
            results.append({'epoch': epoch, 'train': train_metrics})
            if validation is not None:
                results[-1]['validation'] = validation
        if run.scheduler is not None:
            run.scheduler.step(epoch + 1, metric)
        if evaluated:
            _record(run, between_steps, epoch, results[-1], rate, seconds)
            seconds.clear()
            if curves is not None:
                curves.update()
        if run.compilation is not None:
            run.compilation.report(f'after epoch {epoch}')
    return results


def announce_epoch(run: Run, epoch: int) -> None:
    """Pass the number of the next epoch to the loader and the task."""
    loader = run.loaders.train
    for part in (loader.dataset, loader.batch_sampler, loader.sampler):
        if hasattr(part, 'set_epoch'):
            part.set_epoch(epoch)
    if isinstance(run.task, SubnetSteps):
        run.task.set_epoch(epoch)


def check_processes(run: Run, position: Position) -> None:
    """Check that all processes train the same network in the same way.

    Raises:
        DisagreementError: The processes differ.
    """
    task, args = run.task, run.args
    values = {
        'flags': sorted((name, repr(value)) for name, value in args.values().items() if name not in OWN_FLAGS),
        'the starting position (all machines must share the output folder)': position,
        'the number of batches': run.batches,
        'the learning rate': run.learning_rate,
    }
    if isinstance(task, SubnetSteps):
        values['sub-networks'] = [task.draws(step) for step in range(task.step, task.step + CHECKED_STEPS)]
    check_alike(run.process, values)


def _report_skipped(run: Run, epoch: int) -> None:
    skipped = run.loaders.skipped()
    if skipped:
        fate = 'left out' if run.loaders.streamed else 'replaced by others'
        _logger.warning(f'Epoch {epoch}: {skipped} images could not be read and were {fate}.')


def _is_evaluated(run: Run, completed: int) -> bool:
    args = run.args
    return completed % args.val_interval == 0 or completed == run.end_epoch or completed in (args.save_epochs or ())


def _share_statistics(run: Run, network) -> None:
    if run.process.distributed and run.shared_statistics:
        distribute_bn(network, run.process.world_size, run.shared_statistics == 'reduce')


def _validate(run: Run) -> dict[str, float] | None:
    """Return the validation metrics, of the moving average if one is kept on the device; None without validation."""
    if run.loaders.validation is None:
        return None
    metrics = run.evaluate(run, run.eval_network)
    if run.task.has_ema() and not run.args.model_ema_force_cpu:
        _share_statistics(run, run.task.get_trainable_module(ema=True))
        metrics = run.evaluate(run, run.task.get_eval_model(ema=True), title='Validation (EMA)')
    return metrics


def _record(
        run: Run,
        between_steps: BetweenSteps,
        epoch: int,
        result: dict,
        rate: float,
        seconds: list[float],
) -> None:
    """Write the row of the table and the checkpoints; `seconds` are the training times since the last row."""
    if run.folder is not None:
        row = {
            'epoch': epoch,
            **{f'train_{name}': value for name, value in result['train'].items()},
            **{f'eval_{name}': value for name, value in result.get('validation', {}).items()},
            'lr': rate,
            'train_seconds': round(statistics.mean(seconds), 3),
        }
        append_row(run.folder.summary, row)
        run.logs.log(row, run.updates_until(Position(epoch + 1)))
    for callback in run.callbacks:
        callback.after_validation(run, epoch, result.get('validation', result['train']))
    between_steps.save(Position(epoch + 1), metric=result.get('validation', result['train'])[run.metric])
    if run.saver is not None and epoch + 1 in (run.args.save_epochs or ()):
        run.saver.save_milestone(epoch + 1)
