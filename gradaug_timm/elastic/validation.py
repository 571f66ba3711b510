"""Checking a plan against the full-size network with the dropped channels masked."""
import copy
import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from .plan import Plan, Side
from .planning import probe_shape
from .reference import masked_forward
from .slicing import Elastic
from .subnet import Subnet
from .swap import apply_view, make_view, restore_classes, swap_classes

WIDTHS = (0.5, 0.75, 0.9)

_logger = logging.getLogger(__name__)


def validated(replica: nn.Module, planner: Callable[[nn.Module], Plan]) -> Plan:
    """The plan of a network, with every group frozen that doesn't agree with the masked full-size network.

    Args:
        replica: A copy of the network, of plain modules on the CPU (planning.replica_of).
        planner: Makes the plan.

    Raises:
        ValueError: The network can't run as a sub-network of any width.
    """
    plan = planner(replica)
    for candidate in (plan, with_whole_heads(plan)):
        if _agrees(replica, candidate):
            return candidate
    plan = candidate
    everything = frozenset(range(len(plan.groups)))
    wrong = frozenset(
        group for group in everything if not _agrees(replica, replace(plan, frozen=everything - {group})))
    plan = replace(plan, frozen=wrong)
    if wrong == everything or not _agrees(replica, plan):
        raise ValueError(f'{type(replica).__name__} can\'t run as sub-networks: they disagree with the masked network.')
    whole = [name.removesuffix('.weight') for name, sides in plan.tensors.items()
             if len(sides) > 1 and wrong & set().union(*map(_groups_of, sides))]
    _logger.warning(f'{type(replica).__name__}: channels of {", ".join(whole)} stay whole in sub-networks, since what '
                    'is between them mixes channels.')
    return plan


def with_whole_heads(plan: Plan) -> Plan:
    """The plan with the inputs of attention kept in steps of heads, where they have as many channels as the heads.

    Some modules take for granted that both have as many.
    """
    steps: dict[int, int] = {}
    for out, inp in (sides[:2] for sides in plan.tensors.values() if len(sides) > 1):
        for heads, inputs in itertools.product(*map(_groups_of, (out, inp))):
            a, b = plan.groups[heads], plan.groups[inputs]
            if a.size > b.size == 1 and a.size * a.units == b.units:
                steps[inputs] = math.lcm(steps.get(inputs, 1), a.size)
    groups = tuple(replace(group, step=steps.get(index, 1)) for index, group in enumerate(plan.groups))
    return replace(plan, groups=groups)


def _groups_of(side: Side | None) -> set[int]:
    return set() if side is None else side.groups


def _agrees(replica: nn.Module, plan: Plan) -> bool:
    network = copy.deepcopy(replica).double().eval()
    image = torch.randn(1, *probe_shape(replica), dtype=torch.float64)
    try:
        return all(_agrees_at(network, plan, Subnet(width, divisor=1), image) for width in WIDTHS)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError):  # shapes that don't fit
        return False


@torch.no_grad()
def _agrees_at(network: nn.Module, plan: Plan, subnet: Subnet, image: torch.Tensor) -> bool:
    expected = _tensors(masked_forward(network, plan, subnet, image))
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
