"""The epochs of a run: training, validation, checkpoints, and the table of results."""
import logging
import statistics
import time
from contextlib import nullcontext

from timm.utils import distribute_bn

from ..steps import SubnetSteps
from .agreement import check_alike
from .control import Control, restore_progress
from .epoch import train_epoch
from .folder import append_row
from .plot import CurvesInRun
from .position import Position
from .preparation import Run
from .signals import Listener
from .trainer import Trainer

_logger = logging.getLogger(__name__)

CHECKED_STEPS = 32  # whose sub-networks the processes compare
OWN_FLAGS = ('local_rank', 'device')  # of each process


def run_epochs(run: Run) -> list[dict]:
    """Trains the remaining epochs.

    Returns:
        For each epoch with results its number and its training and validation metrics.

    Raises:
        CompilationError: torch.compile needs more graphs than expected.
        DataError: The training images can't be read any further.
        DivergedError: The loss is no longer finite.
        Stopped: A signal ended the run.
        DisagreementError: The processes were started differently.
        OSError: A file can't be written.
    """
    listener = Listener()
    guarded = run.compilation.guarded() if run.compilation is not None else nullcontext()
    with run.trainer.logs, listener.listening(), guarded:
        return _run_epochs(run, Control(run.trainer, listener, run.start))


def _run_epochs(run: Run, control: Control) -> list[dict]:
    trainer, results, seconds = run.trainer, [], []
    curves = CurvesInRun(trainer.folder, run.metric) if trainer.folder is not None else None
    first, meter = run.start.batch, restore_progress(run.trainer, run.progress)
    trainer.loaders.start_at(run.start)
    if not trainer.loaders.by_batch:
        _logger.info('A run that is stopped within an epoch goes on with the beginning of that epoch: the data set is '
                     'iterable, or --use-multi-epochs-loader reads on.')
    if run.start.epoch >= run.end_epoch:
        check_processes(trainer, run.start)  # another machine may see no checkpoint, and begin
    for epoch in range(run.start.epoch, run.end_epoch):
        announce_epoch(trainer, epoch)
        check_processes(trainer, Position(epoch, first))
        started = time.perf_counter()
        train_metrics = train_epoch(trainer, epoch, control, first=first, meter=meter)
        seconds.append(time.perf_counter() - started)
        first, meter = 0, None
        _report_skipped(trainer, epoch)
        _share_statistics(trainer, trainer.task.get_trainable_module())
        evaluated, metric, rate = _is_evaluated(run, epoch + 1), None, trainer.learning_rate
        if evaluated:
            validation = _validate(run)
            metric = (validation or train_metrics)[run.metric]
            results.append({'epoch': epoch, 'train': train_metrics})
            if validation is not None:
                results[-1]['validation'] = validation
        if trainer.scheduler is not None:
            trainer.scheduler.step(epoch + 1, metric)
        if evaluated:
            _record(run, control, epoch, results[-1], rate, seconds)
            seconds.clear()
            if curves is not None:
                curves.update()
        if run.compilation is not None:
            run.compilation.report(f'after epoch {epoch}')
    return results


def announce_epoch(trainer: Trainer, epoch: int) -> None:
    """Tells the loader and the task which epoch comes."""
    loader = trainer.loaders.train
    for part in (loader.dataset, loader.batch_sampler, loader.sampler):
        if hasattr(part, 'set_epoch'):
            part.set_epoch(epoch)
    if isinstance(trainer.task, SubnetSteps):
        trainer.task.set_epoch(epoch)


def check_processes(trainer: Trainer, position: Position) -> None:
    """The processes must train the same network in the same way.

    Raises:
        DisagreementError: They don't.
    """
    task, args = trainer.task, trainer.args
    values = {
        'flags': sorted((name, repr(value)) for name, value in vars(args).items() if name not in OWN_FLAGS),
        'where to begin (machines must share the output folder)': position,
        'the number of batches': trainer.batches,
        'the learning rate': trainer.learning_rate,
    }
    if isinstance(task, SubnetSteps):
        values['sub-networks'] = [task.draws(step) for step in range(task.step, task.step + CHECKED_STEPS)]
    check_alike(trainer.host, values)


def _report_skipped(trainer: Trainer, epoch: int) -> None:
    skipped = trainer.loaders.skipped()
    if skipped:
        _logger.warning(f'Epoch {epoch}: {skipped} images couldn\'t be read, and others took their place.')


def _is_evaluated(run: Run, completed: int) -> bool:
    args = run.trainer.args
    return completed % args.val_interval == 0 or completed == run.end_epoch or completed in (args.save_epochs or ())


def _share_statistics(trainer: Trainer, network) -> None:
    args = trainer.args
    if trainer.host.distributed and args.dist_bn and not args.sync_bn:
        distribute_bn(network, trainer.host.world_size, args.dist_bn == 'reduce')


def _validate(run: Run) -> dict[str, float] | None:
    """The metrics that count: those of the moving average where one is kept on the device."""
    trainer = run.trainer
    if trainer.loaders.validation is None:
        return None
    metrics = run.evaluate(trainer, run.eval_network)
    if trainer.task.has_ema() and not trainer.args.model_ema_force_cpu:
        _share_statistics(trainer, trainer.task.get_trainable_module(ema=True))
        metrics = run.evaluate(trainer, trainer.task.get_eval_model(ema=True), title='Validation (EMA)')
    return metrics


def _record(
        run: Run,
        control: Control,
        epoch: int,
        result: dict,
        rate: float,
        seconds: list[float],
) -> None:
    """Writes the row of the table, and the checkpoints; `seconds` took training in the epochs since the last row."""
    trainer = run.trainer
    if trainer.folder is not None:
        row = {
            'epoch': epoch,
            **{f'train_{name}': value for name, value in result['train'].items()},
            **{f'eval_{name}': value for name, value in result.get('validation', {}).items()},
            'lr': rate,
            'train_seconds': round(statistics.mean(seconds), 3),
        }
        append_row(trainer.folder.summary, row)
        trainer.logs.log(row, trainer.updates_until(Position(epoch + 1)))
    control.save(Position(epoch + 1), metric=result.get('validation', result['train'])[run.metric])
    if trainer.saver is not None and epoch + 1 in (trainer.args.save_epochs or ()):
        trainer.saver.save_milestone(epoch + 1)
