"""What a checkpoint of a detector holds: the one place here that knows its keys."""
import os
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..files import read_checkpoint
from .arguments import DetectionSettings


@dataclass(frozen=True)
class DetectorContents:
    """A trained detector's settings and weights.

    Args:
        settings: The settings that it was trained with.
        weights: The trained weights.
        averages: Their moving average, if there is one.
    """

    settings: DetectionSettings
    weights: Mapping[str, Tensor]
    averages: Mapping[str, Tensor] | None


def read_detector(path: str) -> DetectorContents:
    """Read a checkpoint of gradaug_timm.detection.train.

    Raises:
        ValueError: It does not exist, can't be read, or holds something else.
    """
    if not os.path.exists(path):
        raise ValueError(f'{path} does not exist')
    try:
        state = read_checkpoint(path)
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} can\'t be read: {error}') from error
    if not isinstance(state, dict) or 'detector' not in getattr(state.get('args'), '__dict__', {}):
        raise ValueError(f'{path} is not a checkpoint of gradaug_timm.detection.train')
    try:
        settings = DetectionSettings.of(vars(state['args']))
    except ValueError as error:
        raise ValueError(f'{path} was trained with settings that are not supported: {error}') from error
    return DetectorContents(settings, state['state_dict'], state.get('state_dict_ema'))
