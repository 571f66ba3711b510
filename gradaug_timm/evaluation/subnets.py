"""The sub-networks that are evaluated, each as a network of its own."""
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ..elastic import Subnet, extract, make_elastic, multiply_adds
from .network import training_arguments
from .recalibration import recalibrate_all

_logger = logging.getLogger(__name__)
DEFAULT_DIVISOR = 8


def subnetworks(
        model: nn.Module,
        args,
        config: dict,
        batches: Iterable[torch.Tensor],
        *,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[Subnet, nn.Module]:
    """The dense network of each `--width`, with BatchNorm statistics from the batches; the whole one at width 1.

    Raises:
        ValueError: The model can't run as sub-networks.
    """
    subnets = choose_subnets(model, args, config)
    narrow = [subnet for subnet in subnets if subnet.width < 1]
    if narrow and args.recalibration_batches:
        with autocast():
            recalibrate_all(model, narrow, batches)
    return {subnet: extract(model, subnet) for subnet in subnets}


def choose_subnets(model: nn.Module, args, config: dict) -> list[Subnet]:
    """The sub-network of each `--width`; makes the model elastic.

    Raises:
        ValueError: The model can't run as sub-networks, or one of them would be the whole network.
    """
    try:
        make_elastic(model)
    except ValueError as error:
        raise ValueError(f'--width can\'t be used with --model {args.model}: {error}') from error
    divisor = args.divisor or training_arguments(args.checkpoint).get('gradaug_divisor') or DEFAULT_DIVISOR
    subnets = [Subnet(width, divisor) for width in args.width]
    _check_costs(model, subnets, config['input_size'], name=args.model)
    return subnets


def _check_costs(model: nn.Module, subnets: list[Subnet], input_size: tuple[int, int, int], *, name: str) -> None:
    full = multiply_adds(model, Subnet(), input_size)
    for subnet in subnets:
        cost = multiply_adds(model, subnet, input_size) / full
        if subnet.width < 1 and cost == 1:
            raise ValueError(f'--divisor {subnet.divisor} is too large for --width {subnet.width} of --model {name}: '
                             'every layer would keep all of its channels')
        _logger.info(f'Width {subnet.width:g} with divisor {subnet.divisor} takes {cost:.1%} of the multiply-adds of '
                     'the full network.')
