"""The sub-networks that are evaluated, each as a separate network."""
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from ..elastic import Subnet, extract, make_elastic, multiply_adds
from ..task.presets import DEFAULT, PRESETS
from .recalibration import recalibrate_all
from .trained import Trained

_logger = logging.getLogger(__name__)
DEFAULT_DIVISOR = 8


def subnetworks(
        trained: Trained,
        subnets: Sequence[Subnet],
        batches: Iterable[torch.Tensor] | None,
        *,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[Subnet, nn.Module]:
    """Return the dense network of each sub-network; the whole one at width 1.

    Args:
        trained: The network.
        subnets: The sub-networks.
        batches: Training images to measure BatchNorm statistics on; None keeps those of the full network.
        autocast: The precision of measuring.
    """
    narrow = [subnet for subnet in subnets if subnet.width < 1]
    if narrow and batches is not None:
        with autocast():
            recalibrate_all(trained.network, narrow, batches)
    return {subnet: extract(trained.network, subnet) for subnet in subnets}


def choose_subnets(trained: Trained, widths: Sequence[float], divisor: int | None = None) -> list[Subnet]:
    """Return the sub-network of each width; makes the network elastic.

    Args:
        trained: The network.
        widths: Shares of the channels.
        divisor: Their rounding; None: as the network was trained, else 8.

    Raises:
        ValueError: The network can't run as sub-networks, or one of them would be the whole network.
    """
    try:
        make_elastic(trained.network)
    except ValueError as error:
        raise ValueError(f'--width can\'t be used with --model {trained.name}: {error}') from error
    divisor = divisor or _trained_divisor(trained.settings) or DEFAULT_DIVISOR
    subnets = [Subnet(width, divisor) for width in widths]
    _check_costs(trained, subnets)
    return subnets


def _trained_divisor(settings: Mapping[str, Any]) -> int | None:
    preset = PRESETS.get(settings.get('gradaug_preset') or DEFAULT, {})
    return settings.get('gradaug_divisor') or preset.get('divisor')


def _check_costs(trained: Trained, subnets: list[Subnet]) -> None:
    input_size = trained.config['input_size']
    full = multiply_adds(trained.network, Subnet(), input_size)
    for subnet in subnets:
        cost = multiply_adds(trained.network, subnet, input_size) / full
        if subnet.width < 1 and cost == 1:
            raise ValueError(f'--divisor {subnet.divisor} is too large for --width {subnet.width} of --model '
                             f'{trained.name}: every layer would keep all of its channels')
        _logger.info(f'Width {subnet.width:g} with divisor {subnet.divisor} takes {cost:.1%} of the multiply-adds of '
                     'the full network.')
