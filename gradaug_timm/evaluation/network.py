"""The network that is evaluated: created by name, with weights, as a whole or as one of its sub-networks."""
import argparse
import json
import logging
import os

import timm
from safetensors import safe_open
from timm.models import load_checkpoint
from torch import nn

from ..files import check_whole, read_checkpoint, unreadable
from ..models.creation import model_arguments, name_problem
from .arguments import image_channels

_logger = logging.getLogger(__name__)
CREATION_FLAGS = ('model', 'num_classes', 'in_chans', 'img_size', 'input_size', 'gp', 'model_kwargs')


def create_network(args) -> nn.Module:
    """The model that the arguments name, on the CPU; with a checkpoint its BatchNorm has the epsilon of training.

    Raises:
        ValueError: The model or its weights can't be had.
    """
    problem = name_problem(args.model)
    if problem:
        raise ValueError(problem)
    trained = training_arguments(args.checkpoint)
    try:
        model = timm.create_model(
            args.model,
            pretrained=args.pretrained or not args.checkpoint,
            num_classes=args.num_classes,
            in_chans=image_channels(args),
            global_pool=args.gp,
            **_with_epsilon(model_arguments(args), trained.get('bn_eps')),
        )
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f'--model {args.model} can\'t be created: {error}') from error
    if args.checkpoint:
        load_weights(model, args.checkpoint, name=args.model, use_ema=args.use_ema)
    return model


def _with_epsilon(model_kwargs: dict, bn_eps: float | None) -> dict:
    if bn_eps is None or 'bn_eps' in model_kwargs:
        return model_kwargs
    _logger.info(f'BatchNorm has the epsilon {bn_eps:g}, as the checkpoint was trained.')
    return {**model_kwargs, 'bn_eps': bn_eps}


def load_weights(model: nn.Module, path: str, *, name: str, use_ema: bool = False) -> None:
    """Loads a checkpoint without running code that may be in it.

    Raises:
        ValueError: The file is missing, damaged, unsafe, or another network's; the message is one line.
    """
    if not os.path.isfile(path):
        raise ValueError(f'--checkpoint {path} is no file')
    try:
        check_whole(path)
    except ValueError as error:
        raise ValueError(f'--checkpoint {path} can\'t be read: {error}') from error
    try:
        load_checkpoint(model, path, use_ema=use_ema)
    except RuntimeError as error:
        if 'loading state_dict' in str(error):
            raise ValueError(_describe_mismatch(path, name, str(error))) from error
        raise ValueError(f'--checkpoint {path} can\'t be read: {unreadable(error)}') from error
    except Exception as error:  # what a damaged file makes the unpickler raise has no common class
        raise ValueError(f'--checkpoint {path} can\'t be read: {unreadable(error)}') from error


def _describe_mismatch(path: str, name: str, error: str) -> str:
    first = error.splitlines()[1].strip() if len(error.splitlines()) > 1 else error
    if len(first) > 160:
        first = f'{first[:160]}...'
    return f'--checkpoint {path} doesn\'t fit --model {name}{_trained_as(path)}: {first}'


def _trained_as(path: str) -> str:
    args = training_arguments(path)
    if 'model' not in args:
        return ''
    flags = [
        f'--{key.replace("_", "-")} {_written(args[key])}'
        for key in CREATION_FLAGS if args.get(key)
    ]
    return f', it was trained with {" ".join(flags)}'


def training_arguments(path: str) -> dict:
    """The flags of train.py that a checkpoint was trained with; none where it doesn't tell, or there is none.

    Raises:
        ValueError: The file is damaged, unsafe or no checkpoint.
    """
    if not os.path.isfile(path) or path.lower().endswith(('.npz', '.npy')):
        return {}
    if path.lower().endswith('.safetensors'):
        return _described_arguments(path)
    try:
        checkpoint = read_checkpoint(path, checked=False)  # `load_weights` does
    except ValueError as error:
        raise ValueError(f'--checkpoint {path} can\'t be read: {error}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'--checkpoint {path} holds no weights but a {type(checkpoint).__name__}')
    args = vars(checkpoint['args']) if isinstance(checkpoint.get('args'), argparse.Namespace) else {}
    return {'model': checkpoint['arch'], **args} if 'arch' in checkpoint else args  # type: ignore[return-value]


def _described_arguments(path: str) -> dict:
    try:
        with safe_open(path, 'pt') as file:
            args = json.loads((file.metadata() or {}).get('train_args', '{}'))
    except Exception as error:  # safetensors has one of its own, and passes on those of Rust
        raise ValueError(f'--checkpoint {path} can\'t be read: {unreadable(error)}') from error
    return args if isinstance(args, dict) else {}


def _written(value) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, dict):
        return ' '.join(f'{key}={item}' for key, item in value.items())
    return ' '.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
