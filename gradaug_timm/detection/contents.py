"""What a checkpoint of a detector holds: the one place here that knows its keys."""
import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..evaluation.network import file_problem
from ..evaluation.trained import BEST_CHECKPOINT
from ..files import read_checkpoint
from ..training.checkpoints.find import LAST
from ..training.checkpoints.state import CheckpointState
from .arguments import DetectionSettings
from .categories import Category, made_name

IN_RUN = (BEST_CHECKPOINT, LAST)  # files of a run that hold its settings


@dataclass(frozen=True)
class DetectorContents:
    """A trained detector's settings and weights.

    Args:
        settings: The settings that it was trained with.
        weights: The trained weights.
        averages: Their moving average, if there is one.
        class_names: The names of the categories in the order of labels; None in older checkpoints.
    """

    settings: DetectionSettings
    weights: Mapping[str, Tensor]
    averages: Mapping[str, Tensor] | None
    class_names: tuple[str, ...] | None

    @property
    def categories(self) -> tuple[Category, ...]:
        """The trained categories, in the order of labels."""
        keys = self.settings.categories
        made = [made_name(key) for key in keys]
        return tuple(Category(key, name, name != other)
                     for key, name, other in zip(keys, self.class_names or made, made))


def checkpoint_in(path: str) -> str:
    """Return the best checkpoint of a run, else its last, if the path is the folder of one.

    Raises:
        ValueError: There is no such file.
    """
    path = next(filter(os.path.isfile, (os.path.join(path, name) for name in IN_RUN)), path)
    problem = file_problem(path)
    if problem:
        raise ValueError(problem)
    return path


def read_detector(path: str) -> DetectorContents:
    """Read a checkpoint of gradaug_timm.detection.train.

    Raises:
        ValueError: It can't be read, or holds something else.
    """
    try:
        state = read_checkpoint(path)
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} can\'t be read: {error}') from error
    content = _content(state)
    if 'detector' not in content.settings:
        raise ValueError(f'{path} is not a checkpoint of gradaug_timm.detection.train')
    try:
        settings = DetectionSettings.of(content.settings)
    except ValueError as error:
        raise ValueError(f'{path} was trained with settings that are not supported: {error}') from error
    return DetectorContents(settings, content.weights, content.averaged_weights, content.class_names)


def _content(state: Any) -> CheckpointState:
    try:
        content = CheckpointState.from_state(state)
        return content if isinstance(content.args, argparse.Namespace) else CheckpointState()
    except (AttributeError, KeyError, TypeError):  # it is of another program
        return CheckpointState()
