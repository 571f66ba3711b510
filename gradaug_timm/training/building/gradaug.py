"""Enabling GradAug: settings, cost, and a check that the network supports it."""
import itertools
import logging
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torch import nn

from ...elastic import Subnet, make_elastic, multiply_adds
from ...task.budget import CHOSEN, choose_preset
from ...task.cost import RelativeCost
from ...task.fit_inputs import fit_inputs, log_inputs
from ...task.presets import DEFAULT
from ...task.sampling import width_grid
from ...task.settings import GradAugSettings
from ..arguments import TrainSettings, given_settings
from ..arguments.gradaug import PREFIX

_logger = logging.getLogger(__name__)

BARELY_NARROWER = 0.95  # share of the multiply-adds above which the minimum width hardly regularises
SMALLER_WIDTHS = (0.8, 0.7, 0.6, 0.5)  # suggestions if the minimum width hardly regularises


def enable_gradaug(
        args: TrainSettings,
        network: nn.Module,
        input_size: tuple[int, int, int],
) -> tuple[TrainSettings, GradAugSettings, float]:
    """Make `network` elastic and test it.

    Returns:
        The settings of the run, with what was chosen for a budget or by a preset filled in; the settings of GradAug,
        which are the given ones and otherwise the preset of the image size, as far as the network supports it; and the
        multiply-adds of training, relative to plain training.

    Raises:
        ValueError: A setting is out of range, the network is not supported or fails on an image size, or the budget is
            too small.
    """
    settings = settings_for(args, network, input_size)
    estimate = RelativeCost(network, input_size, batch=args.batch_size, epochs=_scheduled_epochs(args))
    if settings.subnets:
        args, settings = _within_limits(args, settings, network, input_size, estimate)
    log_inputs(network, _preset(args, input_size), settings)
    cost = estimate(settings) if settings.subnets else 1.
    describe(settings, cost)
    if settings.subnets and settings.random_width:
        check_narrower(args.model, network, settings, input_size)
    return args, settings, cost


def settings_for(
        args: TrainSettings,
        network: nn.Module,
        input_size: tuple[int, int, int],
) -> GradAugSettings:
    """Return the settings of GradAug for a network, which is made elastic.

    Flags that are not given take the preset of the image size, as far as the network supports it.

    Raises:
        ValueError: A setting is out of range, or the network is not supported or fails on an image size.
    """
    settings = _preset(args, input_size)
    on_cpu = next(network.parameters()).device.type == 'cpu'
    if args.channels_last and on_cpu and settings.random_width and settings.divisor % 8:
        raise ValueError(
            f'--channels-last on the CPU needs a --gradaug-divisor that is a multiple of 8, not {settings.divisor}: '
            'torch crashes there on strided 1x1 convolutions of other numbers of channels')
    try:
        make_elastic(network)
    except ValueError as error:
        raise ValueError(f'--gradaug does not support --model {args.model}: {error}') from error
    return fit_inputs(network, settings, input_size, given=given_settings(args)) if settings.subnets else settings


def _preset(args: TrainSettings, input_size: tuple[int, int, int]) -> GradAugSettings:
    return GradAugSettings.preset(
        max(input_size[1:]), args.gradaug_preset, **{'seed': args.seed, **given_settings(args)})


def _scheduled_epochs(args: TrainSettings) -> int:
    """Return the epochs of the whole schedule, even if this session stops earlier."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.)
    return create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=1)[1]


def _within_limits(
        args: TrainSettings,
        settings: GradAugSettings,
        network: nn.Module,
        input_size: tuple[int, int, int],
        estimate: RelativeCost,
) -> tuple[TrainSettings, GradAugSettings]:
    """Return the settings within the budget and the limit of the preset; what was chosen for them is filled in.

    Args:
        args: The settings of the run.
        settings: The settings of GradAug without limits.
        network: The network, elastic.
        input_size: Channels, height and width of the images.
        estimate: Gives the cost of settings.
    """
    fitted = {args.gradaug_preset or DEFAULT: settings}

    def settings_of(preset: str) -> GradAugSettings:
        if preset not in fitted:
            fitted[preset] = settings_for(replace(args, gradaug_preset=preset), network, input_size)
        return fitted[preset]

    budget = args.gradaug_budget
    preset, found = choose_preset(args.gradaug_preset, budget, settings_of, estimate, given=given_settings(args))
    chosen: dict[str, Any] = {f'{PREFIX}preset': preset} if budget else {}
    if found != settings_of(preset):
        chosen.update({f'{PREFIX}{name}': getattr(found, name) for name in CHOSEN})
    if chosen:
        source = f'--gradaug-budget {budget:g}' if budget else f'--gradaug-preset {preset}'
        words = ', '.join(f'{name.removeprefix(PREFIX)} {_show(value)}' for name, value in chosen.items())
        _logger.info(f'{source}: {words}.')
    return replace(args, **chosen), found


def describe(settings: GradAugSettings, cost: float) -> None:
    """Log the settings and the cost of a step, relative to plain training."""
    if not settings.subnets:
        _logger.info('GradAug is on without sub-networks: plain training.')
        return
    widths = width_grid(settings) if settings.random_width else ()
    details = [f'{field.name} {_show(getattr(settings, field.name))}' for field in fields(settings)]
    grid = f'; widths {_show(widths)}' if widths else ''
    _logger.info(f'GradAug is on: {", ".join(details)}{grid}; a step costs about {cost:.2f} times a plain one.')


def check_narrower(model: str, network: nn.Module, settings: GradAugSettings, input_size: tuple[int, int, int]) -> None:
    """Warn if the minimum width hardly saves multiply-adds.

    Raises:
        ValueError: The minimum width saves none, and sub-networks differ in nothing else.
    """
    def share(width: float, divisor: int) -> float:
        return multiply_adds(network, Subnet(width, divisor), input_size) / full

    full = multiply_adds(network, Subnet(), input_size)
    width, divisor = settings.min_width, settings.divisor
    kept = share(width, divisor)
    if kept == 1 and width < 1 and settings.mode == 'width':
        raise ValueError(
            f'--gradaug-divisor {divisor}: width {width:g} keeps all channels of --model {model}, so that sub-networks '
            f'would be the full network; {narrower(width, divisor, share)}')
    if kept > BARELY_NARROWER:
        _logger.warning(f'Width {width:g} keeps {kept:.0%} of the multiply-adds: {narrower(width, divisor, share)}.')


def narrower(width: float, divisor: int, share: Callable[[float, int], float]) -> str:
    """Return the advice which flag makes the smallest sub-network smaller: a divisor, or a width.

    Args:
        width: The minimum width.
        divisor: The divisor.
        share: Returns the share of the multiply-adds that sub-networks of a width and divisor keep.
    """
    divisors = ((f'--gradaug-divisor {smaller}', width, smaller) for smaller in (4, 1) if smaller < divisor)
    widths = ((f'--gradaug-min-width {smaller}', smaller, divisor) for smaller in SMALLER_WIDTHS if smaller < width)
    for flag, *subnet in itertools.chain(divisors, widths):
        kept = share(*subnet)  # type: ignore[arg-type]
        if kept <= BARELY_NARROWER:
            return f'{flag} keeps {kept:.0%}'
    return f'divisor 1 and --gradaug-min-width {SMALLER_WIDTHS[-1]} also keep more than {BARELY_NARROWER:.0%}'


def _show(value) -> str:
    if isinstance(value, tuple):
        return '/'.join(map(_show, value)) or 'none'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
