"""Plans of a network that follow from one probed forward pass."""
import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..plan import FIXED, Plan, Side
from .dependencies import Dependency, Kind, dependencies
from .grouping import fixed_labels, group_units, linked, token_labels
from .probe import trace
from .replica import probe_shape
from .residual import BlockWatch
from .sizes import counted, sized_numbers
from .trace import Key, Leaf, Sized, Trace, Use
from .units import Units
from .upstream import Upstream


def plans_by_probing(model: nn.Module) -> Iterator[Plan]:
    """Yield the possible plans of a network, in the order in which they should be tried.

    The plans differ in two points that dependencies leave open. First, the queries and keys of a single head are kept
    whole, or are tied to the values. Second, the inputs of attention may need as many channels as all heads together.

    Args:
        model: A network of plain modules on the CPU; it is not changed.

    Raises:
        ValueError: The network fails on images, returns something other than tensors, or has no layers.
    """
    replica = copy.deepcopy(model).train().eval()  # switching modes clears caches
    seen = Trace()
    watch = BlockWatch(replica, seen)
    trace(replica, seen, torch.rand(1, *probe_shape(model)) + 0.5)
    upstream, found = Upstream(seen.leaves), []
    for use in seen.uses:
        leaves = upstream.of(use.tensor)
        of_use = dependencies(use.tensor, use.dim, leaves)
        upstream.add_stop(use, leaves, of_use)
        found += [(use.key, dependency) for dependency in of_use]
        if any(dependency.kind is Kind.TRANSPOSED for dependency in of_use):
            found += _of_other_dims(use, leaves, seen)
    lengths = [(sized, [] if sized.tensor is None else dependencies(
        sized.tensor, sized.dim, upstream.of(sized.tensor))) for sized in seen.sized]
    has_single_heads = any(dependency.kind is Kind.COMPLETE for _, dependency in found)
    for complete in (False, True) if has_single_heads else (True,):
        plan = replace(_plan(model, seen, found, lengths, complete=complete), blocks=watch.blocks())
        yield plan
        yield with_whole_heads(plan)


def _of_other_dims(use: Use, leaves: list[Leaf], seen: Trace) -> list[tuple[Key, Dependency]]:
    """Return what the other dimensions of a token-mixing layer's input depend on: one of them is the channels."""
    found = []
    for dim in range(1, use.tensor.dim()):
        if dim != use.dim and use.tensor.shape[dim] > 1:
            key = f'#{len(seen.channels)}', 0
            seen.channels[key] = use.tensor.shape[dim]
            found += [(key, dependency) for dependency in dependencies(use.tensor, dim, leaves)
                      if dependency.kind is Kind.PARTIAL]
    return found


def _plan(
        model: nn.Module,
        seen: Trace,
        found: list[tuple[Key, Dependency]],
        lengths: list[tuple[Sized, list[Dependency]]],
        *,
        complete: bool,
) -> Plan:
    """Return the plan that follows from the dependencies; those of kind COMPLETE count only if `complete` is true."""
    whole = [(dependency.key, dependency.entries) for _, dependency in found
             if dependency.kind is Kind.COMPLETE and not complete]
    ties = [(user, dependency) for user, dependency in found
            if dependency.kind is Kind.PARTIAL or (dependency.kind is Kind.COMPLETE and complete)]
    transposed = [(dependency.key, user) for user, dependency in found if dependency.kind is Kind.TRANSPOSED]
    units = Units(seen.channels)
    for tie in seen.ties:
        units.tie(*tie)
    for user, dependency in ties:
        units.tie(dependency.key, dependency.entries, user, dependency.users)
    labels = units.labels()
    fixed = [fixed_labels(units, labels, seen), token_labels(units, labels, seen, transposed),
             *(labels[units.span[key]][entries] for key, entries in [*whole, *_unused(seen, ties)])]
    groups, sides = group_units(units, labels, np.unique(np.concatenate(fixed)), seen)
    tensors: dict[str, list[Side | None]] = {
        name: [sides.get((name, dim)) for dim in range(tensor.dim())]
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    numbers, alike = sized_numbers(lengths, sides)
    return Plan(
        linked(groups, alike),
        {name: tuple(dims) for name, dims in tensors.items() if any(side is not None for side in dims)},
        {**counted(model, sides, seen), **numbers},
    )


def _unused(seen: Trace, ties: list[tuple[Key, Dependency]]) -> list[tuple[Key, np.ndarray]]:
    """Return the output channels of layers on which nothing depends individually, as (key, bool [channels])."""
    unused = {key: np.ones(seen.channels[key], dtype=bool) for key in seen.made}
    for _, dependency in ties:
        if dependency.key in unused:
            unused[dependency.key][dependency.entries] = False
    return list(unused.items())


def with_whole_heads(plan: Plan) -> Plan:
    """Return the plan with attention inputs kept in steps of heads if they have as many channels as all heads."""
    alike = []
    for out, inp in (sides[:2] for sides in plan.tensors.values() if len(sides) > 1 and None not in sides[:2]):
        for number in out.groups:
            heads = plan.groups[number]
            if heads.size > 1 and heads.size * heads.units == len(inp.group) and FIXED not in inp.group:
                alike.append({number} | inp.groups)
    return replace(plan, groups=linked(plan.groups, alike))
