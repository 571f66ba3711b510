"""The plans of a network that follow from running it once on constants."""
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
    """The plans that a network may have, the one to be tried first before the others.

    They differ in what no dependency tells: whether what weighs a single head's values (its queries and keys) is kept
    whole, or is one with the values; and whether the inputs of attention must be as many as the heads' channels.

    Args:
        model: A network of plain modules on the CPU; it is left as it is.

    Raises:
        ValueError: It fails on images, returns something else than tensors, or has no layers.
    """
    replica = copy.deepcopy(model).train().eval()  # which empties caches
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
    """What the other dimensions depend on of what a layer that mixes tokens uses: channels are among them."""
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
    """The plan that follows from dependencies; without those where all depend on all, if `complete` is false."""
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
    """The output channels of layers on which nothing depends by itself, as (key, bool [channels])."""
    unused = {key: np.ones(seen.channels[key], dtype=bool) for key in seen.made}
    for _, dependency in ties:
        if dependency.key in unused:
            unused[dependency.key][dependency.entries] = False
    return list(unused.items())


def with_whole_heads(plan: Plan) -> Plan:
    """The plan with the inputs of attention kept in steps of heads, where they have as many channels as the heads."""
    alike = []
    for out, inp in (sides[:2] for sides in plan.tensors.values() if len(sides) > 1 and None not in sides[:2]):
        for number in out.groups:
            heads = plan.groups[number]
            if heads.size > 1 and heads.size * heads.units == len(inp.group) and FIXED not in inp.group:
                alike.append({number} | inp.groups)
    return replace(plan, groups=linked(plan.groups, alike))
