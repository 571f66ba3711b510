"""Checking a plan against the full-size network with the dropped channels masked."""
import copy
import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from .layers import Elastic, Ranges
from .plan import Plan, Side
from .planning import probe_shape
from .subnet import Subnet
from .swap import apply_view, make_view, restore_classes, swap_classes

WIDTHS = (0.5, 0.75, 0.9)

_logger = logging.getLogger(__name__)


def validated(replica: nn.Module, planner: Callable[[nn.Module], Plan]) -> Plan:
    """The plan of a network, with every group frozen that doesn't agree with the masked full-size network.

    Args:
        replica: A copy of the network, of plain layers on the CPU (planning.replica_of).
        planner: Makes the plan.

    Raises:
        ValueError: The network can't run as a sub-network of any width.
    """
    plan = planner(replica)
    if _agrees(replica, plan):
        return plan
    everything = frozenset(range(len(plan.groups)))
    wrong = frozenset(
        group for group in everything if not _agrees(replica, replace(plan, frozen=everything - {group})))
    plan = replace(plan, frozen=wrong)
    if wrong == everything or not _agrees(replica, plan):
        raise ValueError(f'{type(replica).__name__} can\'t run as sub-networks: they disagree with the masked network.')
    whole = [name for name, sides in plan.layers.items() if wrong & _groups_of(sides)]
    _logger.warning(f'{type(replica).__name__}: channels of {", ".join(whole)} stay whole in sub-networks, since what '
                    'is between them mixes channels.')
    return plan


def _groups_of(sides: tuple[Side | None, Side | None]) -> set[int]:
    return {int(group) for side in sides if side is not None for group in np.unique(side.group)}


def masked_forward(network: nn.Module, plan: Plan, subnet: Subnet, image: torch.Tensor):
    """The full-size network's outputs, the channels that `subnet` drops being zeros before and after each layer.

    Args:
        network: A network of plain layers in evaluation mode.
        plan: Its plan.
        subnet: The sub-network; without skipped blocks.
        image: The input [N, C, H, W].
    """
    handles = []
    for name, (inp, out) in plan.ranges(subnet).items():
        module = network.get_submodule(name)
        if inp is not None:
            handles.append(module.register_forward_pre_hook(lambda _, args, kept=inp: (_masked(args[0], kept),)))
        if out is not None:
            handles.append(module.register_forward_hook(lambda _, __, output, kept=out: _masked(output, kept)))
    try:
        return network(image)
    finally:
        for handle in handles:
            handle.remove()


def _agrees(replica: nn.Module, plan: Plan) -> bool:
    network = copy.deepcopy(replica).double().eval()
    image = torch.randn(1, *probe_shape(replica), dtype=torch.float64)
    try:
        return all(_agrees_at(network, plan, Subnet(width, divisor=1), image) for width in WIDTHS)
    except RuntimeError:  # shapes that don't fit
        return False


@torch.no_grad()
def _agrees_at(network: nn.Module, plan: Plan, subnet: Subnet, image: torch.Tensor) -> bool:
    expected = _tensors(masked_forward(network, plan, subnet, image))
    swap_classes(network)
    apply_view([m for m in network.modules() if isinstance(m, Elastic)], make_view(network, plan, subnet))
    outputs = _tensors(network(image))
    restore_classes(network)
    return len(outputs) == len(expected) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-7, atol=1e-7 * float(b.abs().max()))
        for a, b in zip(outputs, expected))


def _masked(x: torch.Tensor, kept: Ranges) -> torch.Tensor:
    dim = 1 if x.dim() == 4 else x.dim() - 1
    mask = torch.zeros(x.shape[dim], dtype=x.dtype)
    for start, length in kept:
        mask[start:start + length] = 1
    return x * (mask if dim == x.dim() - 1 else mask.view(-1, 1, 1))


def _tensors(result) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)
