"""Attributes that count channels: which integers of a network's modules count which channels."""
from collections import defaultdict
from fractions import Fraction

import numpy as np
from torch import nn

from ...upstream import AnyConvolution, AnyRunningNorm
from ..plan import FIXED, Number, Side
from .dependencies import Dependency, Kind
from .numbers import Origin
from .trace import Key, Sized, Trace

COUNTED: dict[type[nn.Module], dict[str, str]] = {  # attributes that only report the number of channels
    AnyConvolution: {'in_channels': 'in', 'out_channels': 'out'},
    nn.Linear: {'in_features': 'in', 'out_features': 'out'},
    AnyRunningNorm: {'num_features': 'out'},
    nn.GroupNorm: {'num_channels': 'out'},
}


def counted(model: nn.Module, sides: dict[Key, Side], seen: Trace) -> dict[str, Number]:
    """Return the attributes that report the sizes of layers, each with the channels that it counts."""
    found: dict[str, Number] = {}
    for name, module in model.named_modules():
        for attribute, side in next((names for cls, names in COUNTED.items() if isinstance(module, cls)), {}).items():
            weight = f'{name}.weight' if module.weight is not None else f'{name}.running_mean'
            key = seen.inputs.get(weight) if side == 'in' else (weight, 0)
            if key in sides:
                found[f'{name}.{attribute}'] = sides[key]
    return found


def sized_numbers(
        lengths: list[tuple[Sized, list[Dependency]]],
        sides: dict[Key, Side],
) -> tuple[dict[str, Number], list[set[int]]]:
    """Return the attributes from which the model's code takes lengths of tensors, each with the channels it counts.

    Args:
        lengths: Dimensions whose length comes from an attribute, with their dependencies.
        sides: The known sides.

    Returns:
        The attributes; and sets of groups that must keep the same number of channels, because one number counts them.
    """
    found: dict[str, dict[int | None, list[Side]]] = defaultdict(lambda: defaultdict(list))
    alike: dict[Origin, set[int]] = defaultdict(set)
    for sized, dependencies in sorted(lengths, key=lambda one: one[0].number.ratio != 1):
        origin = sized.number.origin
        side, covering = _side_of(sized, dependencies, sides)
        if side is not None and side.groups:
            alike[origin] |= covering
            found[f'{origin.module}.{origin.attribute}'][origin.place].append(_scaled(side, sized.number.ratio))
    numbers = {name: places[None][0] if None in places
               else tuple(places[place][0] if place in places else None for place in range(max(places) + 1))
               for name, places in found.items()}
    return numbers, list(alike.values())


def _scaled(side: Side, ratio: Fraction) -> Side:
    """Return a side with `ratio` times as many entries."""
    def scaled(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, ratio.numerator)[::ratio.denominator]

    return Side(scaled(side.group), scaled(side.rank))


def _side_of(
        sized: Sized,
        dependencies: list[Dependency],
        sides: dict[Key, Side],
) -> tuple[Side | None, set[int]]:
    """Return the side of a dimension, and the groups that each cover the whole dimension."""
    if sized.key is not None:
        side = sides.get(sized.key)
        side = side and Side(side.group[::sized.step], side.rank[::sized.step])
        return side, side.groups if side and len(side.groups) == 1 else set()
    length = sized.tensor.shape[sized.dim]
    reached: dict[int, list[set[int]]] = defaultdict(lambda: [set() for _ in range(length)])
    for found in dependencies:
        if found.key in sides and found.kind is Kind.PARTIAL:
            side = sides[found.key]
            for entry, user in zip(found.entries, found.users):
                reached[int(side.group[entry])][user].add(int(side.rank[entry]))
    telling = {group: users for group, users in reached.items() if any(ranks != users[0] for ranks in users)}
    units = [[(group, min(users[index])) for group, users in telling.items() if users[index]]
             for index in range(length)]
    if not all(units):
        return None, set()
    first = np.array([min(one) for one in units])
    return Side(first[:, 0], first[:, 1]), {group for group, users in telling.items() if all(users)} - {FIXED}
