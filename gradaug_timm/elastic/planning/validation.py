"""Checking a plan against the full-size network with the dropped channels masked."""
import copy
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import nn

from ..plan import Plan
from ..slicing import Elastic
from ..subnet import Subnet
from ..swap import apply_view, make_view, restore_classes, swap_classes
from .reference import masked_forward
from .replica import probe_shape

# Width and divisor of each check. Groups that have to be as wide as each other may differ at a divisor above 1 alone.
CHECKS = ((0.5, 1), (0.75, 1), (0.9, 8))


def validated(replica: nn.Module, planner: Callable[[nn.Module], Iterable[Plan]]) -> Plan:
    """The plan of a network, with every group frozen that doesn't agree with the masked full-size network.

    Args:
        replica: A copy of the network, of plain modules on the CPU (replica.replica_of); it ends in double precision.
        planner: Gives the plans that it may have; the last is the one to freeze groups of.

    Raises:
        ValueError: The network can't run as a sub-network of any width.
    """
    plans = list(planner(replica))
    network = replica.double().eval()
    pair = network, copy.deepcopy(network)
    image = torch.randn(1, *probe_shape(network), dtype=torch.float64)
    for plan in plans:
        if _agrees(pair, plan, image, CHECKS):
            return plan
    everything = frozenset(range(len(plan.groups)))
    for checks in (CHECKS[:1], CHECKS):  # the narrowest shows nearly all
        wrong = frozenset(group for group in everything
                          if not _agrees(pair, replace(plan, frozen=everything - {group}), image, checks))
        found = replace(plan, frozen=wrong)
        if wrong != everything and _agrees(pair, found, image, CHECKS):
            return found
    raise ValueError(f'{type(network).__name__} can\'t run as sub-networks: they disagree with the masked network.')


def _agrees(
        pair: tuple[nn.Module, nn.Module],
        plan: Plan,
        image: torch.Tensor,
        checks: tuple[tuple[float, int], ...],
) -> bool:
    """Whether a network agrees with its copy, which is masked."""
    try:
        return all(_agrees_at(*pair, plan, Subnet(width, divisor), image) for width, divisor in checks)
    except Exception:  # the network's own code may raise anything where shapes don't fit
        return False


@torch.no_grad()
def _agrees_at(network: nn.Module, masked: nn.Module, plan: Plan, subnet: Subnet, image: torch.Tensor) -> bool:
    expected = _tensors(masked_forward(network, plan, subnet, image, masked))
    try:
        swap_classes(network, plan)
        apply_view([m for m in network.modules() if isinstance(m, Elastic)], make_view(network, plan, subnet))
        outputs = _tensors(network(image))
    finally:
        restore_classes(network)
    return len(outputs) == len(expected) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-7, atol=1e-7 * float(b.abs().max()))
        for a, b in zip(outputs, expected))


def _tensors(result) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)
