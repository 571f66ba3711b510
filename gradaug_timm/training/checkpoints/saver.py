"""The checkpoints of a run: written whole, never lost, and sufficient for an exact resumption."""
import logging
import math
import os

from timm.scheduler.scheduler import Scheduler
from timm.utils import CheckpointSaver

from ...files import duplicate, save_checkpoint
from ...task.steps import SubnetSteps
from ...upstream import make_room, rank_checkpoint, ranked_path
from ..position import Position
from .schedules import scheduler_state
from .state import CheckpointState
from .weights import BEST_WEIGHTS, save_weights, weights_metadata

_logger = logging.getLogger(__name__)


class Checkpoints(CheckpointSaver):
    """A saver with timm's files and ranking that writes each file aside and moves it into place.

    Args:
        scheduler: The learning rate schedule, which has a state if it follows the metric.
        config: timm's data configuration of the network.
        facts: Further fields of `CheckpointState` that are the same in all checkpoints.
        kwargs: Arguments of timm's CheckpointSaver.
    """

    def __init__(self, *, scheduler: Scheduler | None, config: dict, facts: dict, **kwargs):
        super().__init__(**kwargs)
        self._scheduler, self._config, self._facts = scheduler, config, facts

    def save(self, position: Position, *, metric: float | None = None, **more) -> str:
        """Write `last`; with a metric, also rank it and keep the best.

        Args:
            position: The progress of the run.
            metric: The metric of the epoch, at its end.
            **more: Further fields of `CheckpointState`.

        Returns:
            The path of `last`.

        Raises:
            OSError: A file cannot be written; earlier files are intact.
        """
        completed = None if metric is None else position.epoch - 1
        last = self._path('last')
        save_checkpoint(self._state(position, completed, metric, more).to_state(), last)
        if completed is not None and metric is not None:
            self._rank(last, completed, metric)
        return last

    def continue_from(self, path: str, state: CheckpointState) -> None:
        """Restore the ranking from a checkpoint in this folder, and complete the steps that follow its writing.

        Args:
            path: The path of the checkpoint.
            state: The content of the checkpoint.
        """
        history = state.saver
        if history is None:
            _logger.warning(f'{path} has no ranking of checkpoints; the ranking starts from the beginning.')
            return
        self.load_state_dict({**history, 'pending': (None, None)})
        epoch, metric = history.get('pending', (None, None))
        if epoch is not None and metric is not None:
            self._rank(path, epoch, metric)
        position = state.position
        if not position.batch and position.epoch in (self.args.save_epochs or ()):
            self.save_milestone(position.epoch, path)

    def save_milestone(self, completed_epochs: int, source: str | None = None) -> str:
        """Keep `source`, by default `last`, as the milestone of a number of epochs."""
        path = self._path(f'milestone-{completed_epochs}')
        duplicate(source or self._path('last'), path)
        return path

    def _rank(self, source: str, epoch: int, metric: float) -> None:
        if not math.isfinite(metric):
            return
        path = ranked_path(self, epoch)
        self.checkpoint_files = [entry for entry in self.checkpoint_files if entry[0] != path]
        worst = self.checkpoint_files[-1] if self.checkpoint_files else None
        best_before = self.best_metric
        has_room = len(self.checkpoint_files) < self.max_history
        if has_room or worst is None or worst[1] is None or self.cmp(metric, worst[1]):
            make_room(self)
            duplicate(source, path)
            rank_checkpoint(self, path, epoch, metric)
        best = self._path('model_best')
        is_best = best_before is None or self.cmp(metric, best_before)
        if is_best and not (os.path.exists(best) and os.path.samefile(source, best)):
            self._save_weights(epoch, metric)
            duplicate(source, best)  # comes last: its existence shows that all other steps are done

    def _state(self, position: Position, completed: int | None, metric: float | None, more: dict) -> CheckpointState:
        full = {
            **self.task.get_checkpoint_state(unwrap_fn=self.unwrap_fn),
            **self.task.get_checkpoint_state(ema=True, unwrap_fn=self.unwrap_fn),
        }
        return CheckpointState(
            position=position,
            arch=self.args.model,
            args=self.args.namespace(),
            weights=full.pop('state_dict'),
            averaged_weights=full.pop('state_dict_ema', None),
            optimizer=self.optimizer.state_dict(),
            amp_scaler=None if self.amp_scaler is None else self.amp_scaler.state_dict(),
            scheduler=scheduler_state(self._scheduler),
            saver=self.state_dict(completed, metric),
            metric=metric,
            task=full,
            **self._facts,
            **more,
        )

    def _save_weights(self, epoch: int, metric: float) -> None:
        """Save the weights of the validated network as safetensors."""
        averaged = self.task.has_ema() and not self.args.model_ema_force_cpu
        key = 'state_dict_ema' if averaged else 'state_dict'
        weights = self.task.get_checkpoint_state(ema=averaged, unwrap_fn=self.unwrap_fn)[key]
        settings = self.task.settings if isinstance(self.task, SubnetSteps) else None
        network = self.unwrap_fn(self.model)
        metadata = weights_metadata(self.args, self._config, network, settings, self._facts.get('class_names'))
        metadata.update(weights='averaged' if averaged else 'trained', epoch=str(epoch), metric=str(metric))
        save_weights(weights, metadata, os.path.join(self.checkpoint_dir, BEST_WEIGHTS))

    def _path(self, name: str) -> str:
        return os.path.join(self.checkpoint_dir, f'{name}{self.extension}')
