"""The network that is evaluated: created by name, with its weights."""
import logging
import os
from collections.abc import Mapping
from typing import Any

import timm
from timm.models import load_checkpoint
from torch import nn

from ..cli import flag
from ..files import check_whole, unreadable
from ..mismatch import describe_mismatch
from ..models.creation import model_arguments, name_problem
from .contents import read_contents
from .settings import OpeningSettings

_logger = logging.getLogger(__name__)
CREATION_FLAGS = ('model', 'num_classes', 'in_chans', 'img_size', 'input_size', 'gp', 'model_kwargs')
FLAG = '--checkpoint '


def create_network(settings: OpeningSettings, trained: Mapping[str, Any]) -> nn.Module:
    """Return the model that the settings name, on the CPU; with a checkpoint, BatchNorm has the epsilon of training.

    Args:
        settings: The model and its weights.
        trained: The settings that the checkpoint was trained with.

    Raises:
        ValueError: The model can't be created, or the weights can't be loaded.
    """
    problem = name_problem(settings.model)
    if problem:
        raise ValueError(problem)
    try:
        model = timm.create_model(
            settings.model,
            pretrained=settings.pretrained or not settings.checkpoint,
            num_classes=settings.num_classes,
            in_chans=settings.image_channels,
            global_pool=settings.gp,
            **_with_epsilon(model_arguments(settings), trained.get('bn_eps')),
        )
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f'--model {settings.model} can\'t be created: {error}') from error
    if settings.checkpoint:
        load_weights(model, settings.checkpoint, name=settings.model, use_ema=settings.use_ema)
    return model


def _with_epsilon(model_kwargs: dict, bn_eps: float | None) -> dict:
    if bn_eps is None or 'bn_eps' in model_kwargs:
        return model_kwargs
    _logger.info(f'BatchNorm has the epsilon {bn_eps:g}, as the checkpoint was trained.')
    return {**model_kwargs, 'bn_eps': bn_eps}


def load_weights(model: nn.Module, path: str, *, name: str, use_ema: bool = False) -> None:
    """Load a checkpoint without running code that may be in it.

    Args:
        model: Takes the weights.
        path: The file.
        name: The name of the model, for errors.
        use_ema: Load averaged weights where the file has them.

    Raises:
        ValueError: The file is missing, damaged, unsafe, or another network's; the message is one line.
    """
    problem = file_problem(path)
    if problem:
        raise ValueError(f'{FLAG}{problem}')
    try:
        check_whole(path)
    except ValueError as error:
        raise ValueError(f'{FLAG}{path} can\'t be read: {error}') from error
    try:
        load_checkpoint(model, path, use_ema=use_ema)
    except RuntimeError as error:
        if 'loading state_dict' in str(error):
            reason = describe_mismatch(error)
            raise ValueError(f'{FLAG}{path} doesn\'t fit --model {name}{_trained_as(path)}: {reason}') from error
        raise ValueError(f'{FLAG}{path} can\'t be read: {unreadable(error)}') from error
    except Exception as error:  # what a damaged file makes the unpickler raise has no common class
        raise ValueError(f'{FLAG}{path} can\'t be read: {unreadable(error)}') from error


def file_problem(path: str) -> str | None:
    """Return why a path is not a file; None if it is one."""
    if os.path.isfile(path):
        return None
    return f'{path} is a folder; give a file' if os.path.isdir(path) else f'{path} does not exist'


def _trained_as(path: str) -> str:
    trained = read_contents(path, label=FLAG).settings
    if 'model' not in trained:
        return ''
    flags = [f'{flag(name)} {written(trained[name])}' for name in CREATION_FLAGS if trained.get(name)]
    return f', it was trained with {" ".join(flags)}'


def written(value: Any) -> str:
    """Write a value as on the command line."""
    if isinstance(value, dict):
        return ' '.join(f'{key}={item}' for key, item in value.items())
    return ' '.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
