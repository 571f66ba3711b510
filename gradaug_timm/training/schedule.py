"""The epochs of a run: training, validation, checkpoints, and the table of results."""
import logging
import statistics
import time
from contextlib import nullcontext

from timm.utils import distribute_bn

from ..task import GradAugTask
from .epoch import train_epoch
from .evaluate import evaluate
from .folder import append_row
from .preparation import Run
from .trainer import Trainer

_logger = logging.getLogger(__name__)


def run_epochs(run: Run) -> list[dict]:
    """Trains the remaining epochs.

    Returns:
        For each epoch with results its number and its training and validation metrics.

    Raises:
        DivergedError: The loss is no longer finite.
        CompilationError: torch.compile needs more graphs than expected.
    """
    with run.compilation.guarded() if run.compilation is not None else nullcontext():
        return _run_epochs(run)


def _run_epochs(run: Run) -> list[dict]:
    results, seconds = [], []
    for epoch in range(run.start_epoch, run.end_epoch):
        _announce_epoch(run.trainer, epoch)
        started = time.perf_counter()
        train_metrics = train_epoch(run.trainer, epoch)
        seconds.append(time.perf_counter() - started)
        _share_statistics(run.trainer, run.trainer.task.get_trainable_module())
        metric = None
        if _is_evaluated(run, epoch + 1):
            validation = _validate(run)
            metric = (validation or train_metrics)[run.metric]
            _record(run, epoch, train_metrics, validation, metric, seconds)
            seconds.clear()
            results.append({'epoch': epoch, 'train': train_metrics})
            if validation is not None:
                results[-1]['validation'] = validation
        if run.trainer.scheduler is not None:
            run.trainer.scheduler.step(epoch + 1, metric)
        if run.compilation is not None:
            run.compilation.report(f'after epoch {epoch}')
    return results


def _announce_epoch(trainer: Trainer, epoch: int) -> None:
    loader = trainer.loaders.train
    for part in (loader.dataset, loader.batch_sampler, loader.sampler):
        if hasattr(part, 'set_epoch'):
            part.set_epoch(epoch)
    if isinstance(trainer.task, GradAugTask):
        trainer.task.set_epoch(epoch)


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
    metrics = evaluate(trainer, run.eval_network)
    if trainer.task.has_ema() and not trainer.args.model_ema_force_cpu:
        _share_statistics(trainer, trainer.task.get_trainable_module(ema=True))
        metrics = evaluate(trainer, trainer.task.get_eval_model(ema=True), title='Validation (EMA)')
    return metrics


def _record(
        run: Run,
        epoch: int,
        train_metrics: dict,
        validation: dict | None,
        metric: float,
        seconds: list[float],
) -> None:
    """Writes the row of the table, and the checkpoints; `seconds` took training in the epochs since the last row."""
    trainer = run.trainer
    if trainer.folder is None:
        return
    row = {
        'epoch': epoch,
        **{f'train_{name}': value for name, value in train_metrics.items()},
        **{f'eval_{name}': value for name, value in (validation or {}).items()},
        'lr': trainer.learning_rate,
        'train_seconds': round(statistics.mean(seconds), 3),
    }
    append_row(trainer.folder.summary, row)
    if trainer.args.log_wandb:
        import wandb
        wandb.log(row)
    trainer.saver.save_checkpoint(epoch, metric=metric)
    if epoch + 1 in (trainer.args.save_epochs or ()):
        trainer.saver.save_milestone(epoch + 1)
