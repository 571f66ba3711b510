"""The optimizer, and the learning rate where none is given."""
import argparse
import logging

import torch
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.task import TrainingTask

_logger = logging.getLogger(__name__)


def create_optimizer(args: argparse.Namespace, task: TrainingTask, images: float) -> torch.optim.Optimizer:
    """The optimizer; a learning rate that isn't given is filled in.

    Args:
        args: The flags.
        task: Whose parameters it changes.
        images: Images an update, over all processes.

    Raises:
        ValueError: It can't be built.
    """
    if args.lr is None:
        args.lr = scaled_learning_rate(args, images)
        _logger.info(f'Learning rate {args.lr:.4g}, from --lr-base {args.lr_base:g}.')
    options = {**optimizer_kwargs(cfg=args), 'filter_bias_and_bn': not args.decay_all_parameters, **args.opt_kwargs}
    try:
        return create_optimizer_v2(task.get_trainable_module(), **options)
    except (ImportError, TypeError) as error:
        raise ValueError(f'--opt {args.opt} cannot be built: {error}') from error


def scaled_learning_rate(args: argparse.Namespace, images: float) -> float:
    """`--lr-base` grown with the images an update, linearly or with their root."""
    ratio = images / args.lr_base_size
    adaptive = any(name in args.opt.lower() for name in ('ada', 'lamb'))
    scale = args.lr_base_scale or ('sqrt' if adaptive else 'linear')
    return args.lr_base * (ratio ** 0.5 if scale == 'sqrt' else ratio)
