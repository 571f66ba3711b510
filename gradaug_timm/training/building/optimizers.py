"""The optimizer, and the learning rate where none is given."""
import logging
from dataclasses import replace
from typing import TypeVar

import torch
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.task import TrainingTask

from ..arguments.settings import LoopSettings
from .tasks import network_of

_logger = logging.getLogger(__name__)

Loop = TypeVar('Loop', bound=LoopSettings)


def create_optimizer(args: LoopSettings, task: TrainingTask) -> torch.optim.Optimizer:
    """The optimizer of a task's parameters.

    Args:
        args: The settings; the learning rate is filled in.
        task: The task.

    Raises:
        ValueError: It can't be built.
    """
    options = {**optimizer_kwargs(cfg=args), 'filter_bias_and_bn': not args.decay_all_parameters, **args.opt_kwargs}
    try:
        return create_optimizer_v2(network_of(task), **options)
    except (ImportError, TypeError) as error:
        raise ValueError(f'--opt {args.opt} cannot be built: {error}') from error


def with_learning_rate(args: Loop, images: float) -> Loop:
    """The settings with a learning rate, where none is given.

    Args:
        args: The settings.
        images: Images an update, over all processes.
    """
    if args.lr is not None:
        return args
    rate = scaled_learning_rate(args, images)
    _logger.info(f'Learning rate {rate:.4g}, from --lr-base {args.lr_base:g}.')
    return replace(args, lr=rate)


def scaled_learning_rate(args: LoopSettings, images: float) -> float:
    """`--lr-base` grown with the images an update, linearly or with their root."""
    ratio = images / args.lr_base_size
    adaptive = any(name in args.opt.lower() for name in ('ada', 'lamb'))
    scale = args.lr_base_scale or ('sqrt' if adaptive else 'linear')
    return args.lr_base * (ratio ** 0.5 if scale == 'sqrt' else ratio)
