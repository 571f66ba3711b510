"""What the integers among the attributes of a network's modules count."""
from collections import defaultdict
from fractions import Fraction

import numpy as np
from torch import nn

from .dependencies import Dependency, Kind
from .plan import Number, Side
from .probe import Key, Sized, Trace

COUNTED: dict[type[nn.Module], dict[str, str]] = {  # attributes that only tell how many channels there are
    nn.modules.conv._ConvNd: {'in_channels': 'in', 'out_channels': 'out'},
    nn.Linear: {'in_features': 'in', 'out_features': 'out'},
    nn.modules.batchnorm._NormBase: {'num_features': 'out'},
    nn.GroupNorm: {'num_channels': 'out'},
}


def counted(model: nn.Module, sides: dict[Key, Side], seen: Trace) -> dict[str, Number]:
    """What the attributes count that only tell the sizes of a layer."""
    found = {}
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
    """What the attributes count from which the model took lengths of tensors.

    Args:
        lengths: Dimensions of such lengths, with what they depend on.
        sides: The sides that are known.

    Returns:
        What they count; and the sets of groups of which as many channels must be kept, since one number counts them.
    """
    found: dict[str, dict[int | None, list[Side]]] = defaultdict(lambda: defaultdict(list))
    for sized, dependencies in sorted(lengths, key=lambda one: one[0].number.ratio != 1):
        side = _side_of(sized, dependencies, sides)
        if side is not None and side.groups:
            origin = sized.number.origin
            found[f'{origin.module}.{origin.attribute}'][origin.place].append(_scaled(side, sized.number.ratio))
    numbers = {name: places[None][0] if None in places
               else tuple(places[place][0] if place in places else None for place in range(max(places) + 1))
               for name, places in found.items()}
    alike = [set().union(*(side.groups for side in seen)) for places in found.values() for seen in places.values()
             if all(len(side.groups) == 1 for side in seen)]
    return numbers, alike


def _scaled(side: Side, ratio: Fraction) -> Side:
    """A side of `ratio` times as many entries."""
    def scaled(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, ratio.numerator)[::ratio.denominator]

    return Side(scaled(side.group), scaled(side.rank))


def _side_of(sized: Sized, dependencies: list[Dependency], sides: dict[Key, Side]) -> Side | None:
    if sized.key is not None:
        side = sides.get(sized.key)
        return side and Side(side.group[::sized.step], side.rank[::sized.step])
    reached: list[set[tuple[int, int]]] = [set() for _ in range(sized.tensor.shape[sized.dim])]
    for found in dependencies:
        if found.key in sides and found.kind is Kind.PARTIAL:
            side = sides[found.key]
            for entry, user in zip(found.entries, found.users):
                reached[user].add((int(side.group[entry]), int(side.rank[entry])))
    if not all(reached) or all(units == reached[0] for units in reached):
        return None
    first = np.array([min(units) for units in reached])
    return Side(first[:, 0], first[:, 1])
