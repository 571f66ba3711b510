"""Validation of plans: sub-networks must agree with the full-size network whose dropped channels are masked."""
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

# Width and divisor of each check. Groups that must be equally wide may differ only at a divisor above 1.
CHECKS = ((0.5, 1), (0.75, 1), (0.9, 8))


def validated(replica: nn.Module, planner: Callable[[nn.Module], Iterable[Plan]]) -> Plan:
    """Return the first plan that passes validation, or the last plan with the groups frozen that fail.

    Args:
        replica: A copy of the network, of plain modules on the CPU (`replica_of`); it is converted to double precision.
        planner: Function that yields the possible plans of the network.

    Raises:
        ValueError: No plan passes, even with groups frozen.
    """
    plans = list(planner(replica))
    network = replica.double().eval()
    pair = network, copy.deepcopy(network)
    image = torch.randn(1, *probe_shape(network), dtype=torch.float64)
    for plan in plans:
        if _agrees(pair, plan, image, CHECKS):
            return plan
    everything = frozenset(range(len(plan.groups)))
    for checks in (CHECKS[:1], CHECKS):  # the narrowest width finds nearly all wrong groups
        wrong = frozenset(group for group in everything
                          if not _agrees(pair, replace(plan, frozen=everything - {group}), image, checks))
        found = replace(plan, frozen=wrong)
        if wrong != everything and _agrees(pair, found, image, CHECKS):
            return found
    raise ValueError(f'{type(network).__name__} can\'t run as sub-networks: they differ from the full-size '
                     'network with masked channels.')


def _agrees(
        pair: tuple[nn.Module, nn.Module],
        plan: Plan,
        image: torch.Tensor,
        checks: tuple[tuple[float, int], ...],
) -> bool:
    """Return whether a network agrees with its masked copy in all checks."""
    try:
        return all(_agrees_at(*pair, plan, Subnet(width, divisor), image) for width, divisor in checks)
    except Exception:  # the network's own code may raise anything if shapes do not fit
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
