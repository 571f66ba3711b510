"""The checkpoints of a run: written whole, never lost, and enough to go on from as if nothing had happened."""
import glob
import json
import logging
import os
from dataclasses import asdict

from safetensors.torch import save_file
from timm.scheduler import PlateauLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.utils import CheckpointSaver

from ..files import duplicate, read_checkpoint, save_checkpoint, written_aside
from ..settings import GradAugSettings
from ..task import GradAugTask
from .arguments.checks import model_name
from .position import Position

_logger = logging.getLogger(__name__)

BEST_WEIGHTS = 'model_best.safetensors'


class Checkpoints(CheckpointSaver):
    """timm's files and ranking, each file written aside and moved into place.

    Args:
        scheduler: The learning rate's; it has a state of its own where it follows the metric.
        config: timm's data configuration of the network.
        world_size: Number of processes.
        kwargs: As for timm's CheckpointSaver.
    """

    def __init__(self, *, scheduler: Scheduler | None, config: dict, world_size: int, **kwargs):
        super().__init__(**kwargs)
        self._scheduler, self._config, self._world_size = scheduler, config, world_size

    def save(self, position: Position, *, metric: float | None = None, progress: dict | None = None) -> None:
        """Writes `last`; with a metric also ranks it, and keeps the best.

        Args:
            position: How far the run has come.
            metric: That of the epoch, at its end.
            progress: What the epoch has gathered until now.

        Raises:
            OSError: A file can't be written; those before are whole.
        """
        completed = None if metric is None else position.epoch - 1
        last = self._path('last')
        save_checkpoint({**self._state(position, completed, metric), 'progress': progress}, last)
        if completed is not None:
            self._rank(last, completed, metric)

    def continue_from(self, path: str, state: dict) -> None:
        """Goes on with the ranking of a checkpoint in this folder, and does what was left to do after it was written.

        Args:
            path: The checkpoint.
            state: Its content.
        """
        history = state.get('saver')
        if history is None:
            _logger.warning(f'{path} has no history of checkpoints; the best is found anew.')
            return
        self.load_state_dict({**history, 'pending': (None, None)})
        epoch, metric = history.get('pending', (None, None))
        if epoch is not None and metric is not None:
            self._rank(path, epoch, metric)

    def save_milestone(self, completed_epochs: int) -> str:
        """Keeps `last` as that of so many epochs."""
        path = self._path(f'milestone-{completed_epochs}')
        duplicate(self._path('last'), path)
        return path

    def _rank(self, source: str, epoch: int, metric: float) -> None:
        path = self._checkpoint_path(epoch)
        self.checkpoint_files = [entry for entry in self.checkpoint_files if entry[0] != path]
        worst = self.checkpoint_files[-1] if self.checkpoint_files else None
        best_before = self.best_metric
        if len(self.checkpoint_files) < self.max_history or worst[1] is None or self.cmp(metric, worst[1]):
            self._cleanup_checkpoints(1)
            duplicate(source, path)
            self._track_checkpoint(path, epoch, metric, update_best_file=False)
        if best_before is None or self.cmp(metric, best_before):
            duplicate(source, self._path('model_best'))
            self._save_weights(epoch, metric)

    def _state(self, position: Position, completed: int | None, metric: float | None) -> dict:
        state = {
            'epoch': position.epoch - 1,  # the last complete one, as in timm's checkpoints
            'arch': self.args.model,
            'args': self.args,
            'version': 2,
            'optimizer': self.optimizer.state_dict(),
            **self.task.get_checkpoint_state(unwrap_fn=self.unwrap_fn),
            **self.task.get_checkpoint_state(ema=True, unwrap_fn=self.unwrap_fn),
            'saver': self.state_dict(completed, metric),
            'position': asdict(position),
            'scheduler': scheduler_state(self._scheduler),
            'world_size': self._world_size,
        }
        if self.amp_scaler is not None:
            state[self.amp_scaler.state_dict_key] = self.amp_scaler.state_dict()
        if metric is not None:
            state['metric'] = metric
        return state

    def _save_weights(self, epoch: int, metric: float) -> None:
        """The network that validation judged, for all that reads safetensors."""
        averaged = self.task.has_ema() and not self.args.model_ema_force_cpu
        key = 'state_dict_ema' if averaged else 'state_dict'
        weights = self.task.get_checkpoint_state(ema=averaged, unwrap_fn=self.unwrap_fn)[key]
        settings = self.task.settings if isinstance(self.task, GradAugTask) else None
        metadata = weights_metadata(
            self.args.model, self.args.num_classes, self._config, settings)
        metadata.update(weights='averaged' if averaged else 'trained', epoch=str(epoch), metric=str(metric))
        with written_aside(os.path.join(self.checkpoint_dir, BEST_WEIGHTS)) as partial:
            save_file({name: weight.clone().contiguous() for name, weight in weights.items()}, partial, metadata)

    def _path(self, name: str) -> str:
        return os.path.join(self.checkpoint_dir, f'{name}{self.extension}')


def weights_metadata(model: str, num_classes: int, config: dict, settings: GradAugSettings | None) -> dict[str, str]:
    """What a file of weights says of them, as JSON: architecture in timm, data configuration, settings of GradAug."""
    values = {
        'architecture': model_name(model).removeprefix('gradaug_'),
        'num_classes': num_classes,
        'pretrained_cfg': config,
        'gradaug': None if settings is None else asdict(settings),
    }
    return {'format': 'pt', **{name: json.dumps(value) for name, value in values.items()}}


def scheduler_state(scheduler: Scheduler | None) -> dict | None:
    """What doesn't follow from the number of the update: that of a schedule which follows the metric."""
    if not isinstance(scheduler, PlateauLRScheduler):
        return None
    plateau = {name: value for name, value in scheduler.lr_scheduler.state_dict().items() if name in COUNTERS}
    return {'plateau': plateau, 'restore_lr': scheduler.restore_lr}


COUNTERS = ('best', 'num_bad_epochs', 'cooldown_counter', 'last_epoch', '_last_lr')


def restore_scheduler(scheduler: Scheduler | None, state: dict | None) -> None:
    """Puts `scheduler_state` back."""
    if state and isinstance(scheduler, PlateauLRScheduler):
        scheduler.lr_scheduler.load_state_dict(state['plateau'])
        scheduler.restore_lr = state['restore_lr']


def position_of(state: dict) -> Position:
    """How far the run of a checkpoint had come; timm's are written at the end of an epoch."""
    if state.get('position'):
        return Position(**state['position'])
    if 'epoch' not in state:
        return Position()
    return Position(state['epoch'] + (state.get('version', 1) > 1))


def newest_valid(folder: str) -> str | None:
    """The newest checkpoint of a folder that is whole; None where there is none at all.

    Raises:
        ValueError: There are some, and all are damaged.
    """
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), '*.pth.tar')), key=os.path.getmtime, reverse=True)
    paths = [path for path in paths if os.path.basename(path) != 'tmp.pth.tar']
    faults, whole = [], {}
    for path in sorted(paths, key=lambda path: os.path.basename(path) != 'last.pth.tar'):
        try:
            position = position_of(read_checkpoint(path))
        except (OSError, ValueError) as error:
            faults.append(f'{path} can\'t be read: {error}')
            continue
        if not faults:
            return path
        whole[path] = (position.epoch, position.batch)
    if faults and not whole:
        raise ValueError(f'--resume auto: {faults[0]}; {folder} holds no other checkpoint that is whole')
    if not whole:
        return None
    newest = max(whole, key=whole.get)
    _logger.warning(f'--resume auto: {"; ".join(faults)}. Going on from {newest}.')
    return newest
