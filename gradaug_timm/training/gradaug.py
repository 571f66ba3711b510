"""Turning GradAug on: its settings, its cost, and a first look at whether the network takes it."""
import argparse
import itertools
import logging
from dataclasses import fields

import torch
from torch import nn

from ..elastic import Subnet, activate, make_elastic, multiply_adds, num_blocks
from ..sampling import draw_step, width_grid
from ..settings import GradAugSettings
from ..transforms import InputTransform, apply_transform, output_size
from .arguments import given_settings

_logger = logging.getLogger(__name__)

BARELY_NARROWER = 0.95  # share of the multiply-adds above which the minimum width hardly regularises
COST_SAMPLES = 24  # sub-networks that are measured at most for the estimate of the cost
MOST_STEPS = 500  # whose draws it averages


def enable_gradaug(
        args: argparse.Namespace,
        network: nn.Module,
        input_size: tuple[int, int, int],
) -> tuple[GradAugSettings, float]:
    """Makes `network` elastic and tries it.

    Returns:
        The preset of the image size, with the flags in place of its values; and the multiply-adds of a step,
        relative to plain training.

    Raises:
        ValueError: A setting is out of range, or the network can't be carried or fails on what it is to take.
    """
    settings = GradAugSettings.preset(max(input_size[1:]), **{'seed': args.seed, **given_settings(args)})
    on_cpu = next(network.parameters()).device.type == 'cpu'
    if args.channels_last and on_cpu and settings.random_width and settings.divisor % 8:
        raise ValueError(
            f'--channels-last on the CPU needs a --gradaug-divisor that is a multiple of 8, not {settings.divisor}: '
            'torch crashes there on strided 1x1 convolutions of other numbers of channels')
    make_elastic(network)
    if settings.subnets:
        try_smallest(network, settings, input_size)
    cost = relative_cost(network, settings, input_size) if settings.subnets else 1.
    describe(settings, cost)
    if settings.subnets and settings.random_width:
        check_narrower(args.model, network, settings, input_size)
    return settings, cost


@torch.no_grad()
def try_smallest(network: nn.Module, settings: GradAugSettings, input_size: tuple[int, int, int]) -> None:
    """Runs the smallest sub-network once at the smallest size, in evaluation mode.

    Raises:
        ValueError: It fails.
    """
    subnet = _smallest(network, settings)
    size = min(settings.sizes, key=lambda size: output_size(size, *input_size[1:]))
    height, width = output_size(size, *input_size[1:])
    weight = next(network.parameters())
    images = torch.zeros(2, *input_size, device=weight.device, dtype=weight.dtype)
    training = network.training
    network.eval()
    try:
        with activate(network, subnet):
            network(apply_transform(images, InputTransform(size)))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f'--gradaug-sizes {size:.4g}: the network fails at {height}x{width} pixels and width {subnet.width:g} '
            f'({reason}); larger sizes may do') from error
    finally:
        network.train(training)


def describe(settings: GradAugSettings, cost: float) -> None:
    """Logs the settings and the cost of a step relative to plain training."""
    if not settings.subnets:
        _logger.info('GradAug is on without sub-networks: plain training.')
        return
    widths = width_grid(settings) if settings.random_width else ()
    details = [f'{field.name} {_show(getattr(settings, field.name))}' for field in fields(settings)]
    grid = f'; widths {_show(widths)}' if widths else ''
    _logger.info(f'GradAug is on: {", ".join(details)}{grid}; a step costs about {cost:.2f} times a plain one.')


def relative_cost(network: nn.Module, settings: GradAugSettings, input_size: tuple[int, int, int]) -> float:
    """Multiply-adds of a step, relative to plain training: the mean over the first steps' draws."""
    full = multiply_adds(network, Subnet(), input_size)
    measured: dict[tuple, int] = {}
    totals = []
    blocks = num_blocks(network)
    for step in itertools.count():
        draws = draw_step(settings, step, num_blocks=blocks)
        keys = [(draw.subnet, output_size(draw.transform.size, *input_size[1:])) for draw in draws]
        new = [key for key in dict.fromkeys(keys) if key not in measured]
        if (totals and len(measured) + len(new) > COST_SAMPLES) or step == MOST_STEPS:
            break
        measured.update((key, multiply_adds(network, key[0], (input_size[0], *key[1]))) for key in new)
        totals.append(sum(measured[key] for key in keys))
    return 1 + sum(totals) / len(totals) / full / settings.interval


def _smallest(network: nn.Module, settings: GradAugSettings) -> Subnet:
    width = settings.min_width if settings.random_width else 1.
    return Subnet(width, settings.divisor, tuple(range(num_blocks(network))) if settings.random_depth else ())


def check_narrower(model: str, network: nn.Module, settings: GradAugSettings, input_size: tuple[int, int, int]) -> None:
    """Warns where the minimum width hardly saves multiply-adds.

    Raises:
        ValueError: It saves none, and nothing else varies in the sub-networks.
    """
    full = multiply_adds(network, Subnet(), input_size)
    kept = multiply_adds(network, Subnet(settings.min_width, settings.divisor), input_size) / full
    if kept == 1 and settings.min_width < 1 and settings.mode == 'width':
        raise ValueError(
            f'--gradaug-divisor {settings.divisor}: width {settings.min_width:g} keeps all of --model {model}, '
            'so sub-networks would be the network itself; try 4 or 1, or a smaller --gradaug-min-width')
    if kept > BARELY_NARROWER:
        _logger.warning(
            f'Width {settings.min_width:g} keeps {kept:.0%} of the multiply-adds: the layers are too small for '
            f'--gradaug-divisor {settings.divisor}, try 4 or 1.')


def _show(value) -> str:
    if isinstance(value, tuple):
        return '/'.join(map(_show, value)) or 'none'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
