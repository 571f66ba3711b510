"""Groups: units of channels that are interchangeable."""
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from ..plan import FIXED, Group, Side
from .trace import Key, Trace
from .units import Units


def fixed_labels(units: Units, labels: np.ndarray, seen: Trace) -> np.ndarray:
    """Return the labels of units that every sub-network keeps: logits, and units that no layer makes or none uses."""
    def of(keys: Iterable[Key]) -> np.ndarray:
        return np.unique(np.concatenate([labels[units.span[key]] for key in keys]))

    free = np.intersect1d(of(seen.made), of(seen.used))
    fixed = [np.setdiff1d(labels, free)]
    outputs = [leaf for leaf in seen.leaves if leaf.is_output]
    for x in seen.result:
        gradients = torch.autograd.grad(
            x, [leaf.tensor for leaf in outputs], torch.ones_like(x), retain_graph=True, allow_unused=True)
        for leaf, gradient in zip(outputs, gradients):
            dim, key = next(((dim, key) for dim, key in enumerate(leaf.keys) if key is not None), (0, None))
            if gradient is not None and key is not None:
                reached = np.flatnonzero(gradient.movedim(dim, 0).flatten(1).ne(0).any(1).numpy())
                fixed.append(labels[units.span[key]][reached])
    return np.unique(np.concatenate(fixed))


def token_labels(units: Units, labels: np.ndarray, seen: Trace, transposed: list[tuple[Key, Key]]) -> np.ndarray:
    """Return the labels of units that count tokens: layers that mix tokens use them where others use channels."""
    if not transposed:
        return np.array([], dtype=np.int64)
    found = {seen.made[0]: False}  # key -> whether it counts tokens
    members: dict[int, list[Key]] = defaultdict(list)
    for key in seen.channels:
        for label in np.unique(labels[units.span[key]]):
            members[int(label)].append(key)
    pending = [seen.made[0]]
    while pending:
        key = pending.pop()
        same = [other for label in np.unique(labels[units.span[key]]) for other in members[int(label)]]
        opposite = [b if a == key else a for a, b in transposed if key in (a, b)]
        for others, is_token in ((same, found[key]), (opposite, not found[key])):
            for other in others:
                if other not in found:
                    found[other] = is_token
                    pending.append(other)
    return np.unique(np.concatenate([labels[units.span[key]] for key, is_token in found.items() if is_token] or [[]]))


def group_units(
        units: Units,
        labels: np.ndarray,
        fixed: np.ndarray,
        seen: Trace,
) -> tuple[tuple[Group, ...], dict[Key, Side]]:
    """Return groups and sides: units with the same number of entries in the same dimensions form a group."""
    signature: dict[int, list[tuple[int, int]]] = defaultdict(list)
    size: dict[int, int] = {}
    consumed = set(seen.consumed)
    for number, (key, span) in enumerate(units.span.items()):
        for label, entries in zip(*(array.tolist() for array in np.unique(labels[span], return_counts=True))):
            signature[label].append((number, entries))
            if key in consumed:
                size[label] = min(size.get(label, entries), entries)
    members: dict[tuple, list[int]] = defaultdict(list)
    for label in sorted(set(signature) - set(fixed.tolist())):
        members[tuple(signature[label])].append(label)
    group_of, rank_of = np.full(units.count, FIXED), np.zeros(units.count, dtype=np.int64)
    for number, group in enumerate(members.values()):
        group_of[group], rank_of[group] = number, np.arange(len(group))
    sides = {key: Side(group_of[labels[span]], rank_of[labels[span]]) for key, span in units.span.items()}
    groups = tuple(Group(len(group), size.get(group[0], 1)) for group in members.values())
    return groups, {key: side for key, side in sides.items() if side.groups}


def linked(groups: tuple[Group, ...], alike: list[set[int]]) -> tuple[Group, ...]:
    """Return the groups with steps such that all groups of a set keep the same share of channels.

    Args:
        groups: The groups.
        alike: Sets of groups, by number; sets that overlap are merged.
    """
    merged: list[set[int]] = []
    for numbers in alike:
        apart = [other for other in merged if not other & numbers]
        merged = [*apart, set(numbers).union(*(other for other in merged if other & numbers))]
    new = list(groups)
    for numbers in merged:
        if len({(groups[number].units, groups[number].size) for number in numbers}) > 1:
            count = math.gcd(*(groups[number].units for number in numbers))
            steps = {number: groups[number].units // count for number in numbers}
            multiple = math.lcm(*steps.values())
            channels = -(-max(groups[number].size * steps[number] for number in numbers) // multiple) * multiple
            for number in numbers:
                new[number] = replace(groups[number], size=channels // steps[number], step=steps[number])
    return tuple(new)
