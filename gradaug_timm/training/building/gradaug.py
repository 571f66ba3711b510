"""Turning GradAug on: its settings, its cost, and a first look at whether the network takes it."""
import itertools
import logging
from collections.abc import Callable
from dataclasses import fields, replace

import torch
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torch import nn

from ...elastic import Subnet, make_elastic, multiply_adds
from ...task.budget import CHOSEN, within_budget
from ...task.cost import RelativeCost
from ...task.fit_inputs import fit_inputs, log_inputs
from ...task.sampling import width_grid
from ...task.settings import GradAugSettings
from ..arguments import TrainSettings, given_settings
from ..arguments.gradaug import PREFIX

_logger = logging.getLogger(__name__)

BARELY_NARROWER = 0.95  # share of the multiply-adds above which the minimum width hardly regularises
SMALLER_WIDTHS = (0.8, 0.7, 0.6, 0.5)  # that are tried where the minimum width hardly regularises


def enable_gradaug(
        args: TrainSettings,
        network: nn.Module,
        input_size: tuple[int, int, int],
) -> tuple[TrainSettings, GradAugSettings, float]:
    """Makes `network` elastic and tries it.

    Returns:
        The settings of the run, in which what a budget chooses is filled in; the preset of the image size as far as the
        network takes it, with the run's settings in place of its values; and the multiply-adds of training, relative
        to plain training.

    Raises:
        ValueError: A setting is out of range, the network can't be carried or fails on what it is to take, or the
            budget is too small.
    """
    preset = _preset(args, input_size)
    settings = settings_for(args, network, input_size)
    log_inputs(network, preset, settings)
    estimate = RelativeCost(network, input_size, batch=args.batch_size, epochs=_scheduled_epochs(args))
    if args.gradaug_budget and settings.subnets:
        args, settings = _choose(args, settings, args.gradaug_budget, estimate)
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
    """The flags, and for those that aren't given the preset, as far as `network` takes it, which is made elastic.

    Raises:
        ValueError: A setting is out of range, or the network can't be carried or fails on what it is to take.
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
        raise ValueError(f'--gradaug can\'t be used with --model {args.model}: {error}') from error
    return fit_inputs(network, settings, input_size, given=given_settings(args)) if settings.subnets else settings


def _preset(args: TrainSettings, input_size: tuple[int, int, int]) -> GradAugSettings:
    return GradAugSettings.preset(max(input_size[1:]), **{'seed': args.seed, **given_settings(args)})


def _scheduled_epochs(args: TrainSettings) -> int:
    """Epochs of the whole schedule, however early this part of the run stops."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.)
    return create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=1)[1]


def _choose(
        args: TrainSettings,
        settings: GradAugSettings,
        budget: float,
        estimate: RelativeCost,
) -> tuple[TrainSettings, GradAugSettings]:
    settings = within_budget(settings, budget, estimate, given=given_settings(args))
    args = replace(args, **{f'{PREFIX}{name}': getattr(settings, name) for name in CHOSEN})
    chosen = ', '.join(f'{name} {_show(getattr(settings, name))}' for name in CHOSEN)
    _logger.info(f'--gradaug-budget {budget:g}: {chosen}.')
    return args, settings


def describe(settings: GradAugSettings, cost: float) -> None:
    """Logs the settings and the cost of a step relative to plain training."""
    if not settings.subnets:
        _logger.info('GradAug is on without sub-networks: plain training.')
        return
    widths = width_grid(settings) if settings.random_width else ()
    details = [f'{field.name} {_show(getattr(settings, field.name))}' for field in fields(settings)]
    grid = f'; widths {_show(widths)}' if widths else ''
    _logger.info(f'GradAug is on: {", ".join(details)}{grid}; a step costs about {cost:.2f} times a plain one.')


def check_narrower(model: str, network: nn.Module, settings: GradAugSettings, input_size: tuple[int, int, int]) -> None:
    """Warns where the minimum width hardly saves multiply-adds.

    Raises:
        ValueError: It saves none, and nothing else varies in the sub-networks.
    """
    def share(width: float, divisor: int) -> float:
        return multiply_adds(network, Subnet(width, divisor), input_size) / full

    full = multiply_adds(network, Subnet(), input_size)
    width, divisor = settings.min_width, settings.divisor
    kept = share(width, divisor)
    if kept == 1 and width < 1 and settings.mode == 'width':
        raise ValueError(
            f'--gradaug-divisor {divisor}: width {width:g} keeps all of --model {model}, so sub-networks would be the '
            f'network itself; {narrower(width, divisor, share)}')
    if kept > BARELY_NARROWER:
        _logger.warning(f'Width {width:g} keeps {kept:.0%} of the multiply-adds: {narrower(width, divisor, share)}.')


def narrower(width: float, divisor: int, share: Callable[[float, int], float]) -> str:
    """Which flag makes the smallest sub-network smaller: a divisor, or a width where units are as large as heads.

    Args:
        width: The minimum width.
        divisor: The divisor.
        share: Gives the share of the multiply-adds that sub-networks of a width and divisor keep.
    """
    divisors = ((f'--gradaug-divisor {smaller}', width, smaller) for smaller in (4, 1) if smaller < divisor)
    widths = ((f'--gradaug-min-width {smaller}', smaller, divisor) for smaller in SMALLER_WIDTHS if smaller < width)
    for flag, *subnet in itertools.chain(divisors, widths):
        kept = share(*subnet)  # type: ignore[arg-type]
        if kept <= BARELY_NARROWER:
            return f'{flag} keeps {kept:.0%}'
    return f'nor does divisor 1 or --gradaug-min-width {SMALLER_WIDTHS[-1]} keep {BARELY_NARROWER:.0%} or less'


def _show(value) -> str:
    if isinstance(value, tuple):
        return '/'.join(map(_show, value)) or 'none'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
