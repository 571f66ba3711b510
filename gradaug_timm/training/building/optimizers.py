"""The optimizer, and the default learning rate."""
import logging
from dataclasses import replace
from typing import TypeVar

import torch
from timm.optim import create_optimizer_v2, list_optimizers, optimizer_kwargs
from timm.task import TrainingTask

from ...cli import one_line
from ..arguments.settings import LoopSettings
from .tasks import network_of

_logger = logging.getLogger(__name__)

Loop = TypeVar('Loop', bound=LoopSettings)


def create_optimizer(args: LoopSettings, task: TrainingTask) -> torch.optim.Optimizer:
    """Create the optimizer of a task's parameters.

    Args:
        args: The settings, including the learning rate.
        task: The task.

    Raises:
        ValueError: The optimizer cannot be built.
    """
    options = {**optimizer_kwargs(cfg=args), 'filter_bias_and_bn': not args.decay_all_parameters, **args.opt_kwargs}
    try:
        return create_optimizer_v2(network_of(task), **options)
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f'--opt {args.opt} cannot be built: {one_line(error)}{_other(args.opt)}') from error


def _other(name: str) -> str:
    """Return a hint of the optimizer with the same updates that needs neither APEX nor bitsandbytes."""
    prefix, _, bare = name.lower().rpartition('_')
    plain = bare.removeprefix('fused').removeprefix('bnb').removesuffix('8bit')
    if plain == bare or plain not in list_optimizers():
        return ''
    return f'; use --opt {prefix}{"_" if prefix else ""}{plain}, which makes the same updates'


def with_learning_rate(args: Loop, images: float) -> Loop:
    """Return the settings with a learning rate, derived from `--lr-base` if none is given.

    Args:
        args: The settings.
        images: Images per update, over all processes.
    """
    if args.lr is not None:
        return args
    rate = scaled_learning_rate(args, images)
    _logger.info(f'Learning rate {rate:.4g}, from --lr-base {args.lr_base:g}.')
    return replace(args, lr=rate)


def scaled_learning_rate(args: LoopSettings, images: float) -> float:
    """Return `--lr-base`, scaled by the images per update or by their square root."""
    ratio = images / args.lr_base_size
    adaptive = any(name in args.opt.lower() for name in ('ada', 'lamb'))
    scale = args.lr_base_scale or ('sqrt' if adaptive else 'linear')
    return args.lr_base * (ratio ** 0.5 if scale == 'sqrt' else ratio)
