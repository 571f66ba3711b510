"""The content of a checkpoint."""
import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..position import Position

VERSION = 2  # of timm's checkpoints: `epoch` is the last complete one
NAMES = {'weights': 'state_dict', 'averaged_weights': 'state_dict_ema'}  # timm's names of fields
LEFT_OUT_IF_NONE = ('metric', 'amp_scaler', 'averaged_weights', 'callbacks', 'class_names')


@dataclass(frozen=True)
class CheckpointState:
    """The content of a checkpoint, under timm's keys if timm has them.

    Args:
        position: The progress of the run.
        arch: The name of the model.
        args: The settings of the run, in timm's form.
        weights: The network's state dict.
        averaged_weights: The state dict of the moving average.
        optimizer: The optimizer's state.
        amp_scaler: The loss scaler's state.
        scheduler: The state of a schedule that follows the metric.
        saver: The ranking of checkpoints.
        progress: Losses and buffers of the current epoch, by process.
        callbacks: State of callbacks and loggers, by their names.
        world_size: Number of processes of the run.
        training_images: Number of training images; None if it is unknown.
        metric: The metric that ranks the checkpoint.
        class_names: The names of the classes in the order of labels; None if they are unknown.
        task: All other keys, which belong to the task.
    """

    position: Position = field(default_factory=Position)
    arch: str = ''
    args: argparse.Namespace | None = None
    weights: Mapping[str, Any] = field(default_factory=dict)
    averaged_weights: Mapping[str, Any] | None = None
    optimizer: dict | None = None
    amp_scaler: dict | None = None
    scheduler: dict | None = None
    saver: dict | None = None
    progress: dict | None = None
    callbacks: dict | None = None
    world_size: int | None = None
    training_images: int | None = None
    metric: float | None = None
    class_names: tuple[str, ...] | None = None
    task: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> 'CheckpointState':
        """Read the content of a checkpoint; checkpoints of timm and of older versions lack some fields.

        Raises:
            KeyError, TypeError: The content is not a checkpoint of a run.
        """
        keys = {NAMES.get(each.name, each.name): each.name for each in fields(cls) if each.name != 'task'}
        known = {keys[key]: value for key, value in state.items() if key in keys}
        rest = {key: value for key, value in state.items() if key not in (*keys, 'epoch', 'version')}
        return cls(**{**known, 'position': position_of(state)}, task=rest)

    def to_state(self) -> dict[str, Any]:
        """Return the content under the keys used in files."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != 'task'}
        kept = {NAMES.get(name, name): value for name, value in own.items()
                if value is not None or name not in LEFT_OUT_IF_NONE}
        return {**kept, **self.task, 'position': asdict(self.position), 'epoch': self.position.epoch - 1,
                'version': VERSION}

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run by name; empty if they are unknown."""
        return {} if self.args is None else vars(self.args)


def position_of(state: Mapping[str, Any]) -> Position:
    """Return the position of a checkpoint; checkpoints of timm are written at the end of an epoch."""
    if state.get('position'):
        return Position(**state['position'])
    if 'epoch' not in state:
        return Position()
    return Position(state['epoch'] + (state.get('version', 1) > 1))
