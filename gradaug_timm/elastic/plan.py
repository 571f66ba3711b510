"""The plan of a network: which channels of which tensors must be kept or dropped together."""
from dataclasses import dataclass, field

import numpy as np

from .slicing import Ranges
from .subnet import Subnet

FIXED = -1  # the group of channels that every sub-network keeps


@dataclass(frozen=True)
class Group:
    """Group of interchangeable units; a sub-network keeps the first units of each group.

    Args:
        units: Number of units.
        size: Channels in a unit: 1, or as many as a grouped convolution, a GroupNorm or an attention head needs.
        step: Units that are kept or dropped at a time, if the group must keep the same share as one with larger units.
        expansion: 4 for inner channels of bottlenecks, which the paper counts from the block's output (Subnet.kept).
    """
    units: int
    size: int = 1
    step: int = 1
    expansion: int = 1

    def kept(self, subnet: Subnet) -> int:
        """Return how many units a sub-network keeps."""
        channels = subnet.kept(self.units * self.size, unit=self.size * self.step, expansion=self.expansion)
        return channels // self.size


@dataclass(frozen=True, eq=False)
class Side:
    """Entries of one dimension of a tensor: the group of each entry (or FIXED), and the unit's rank in the group."""
    group: np.ndarray
    rank: np.ndarray

    @classmethod
    def of_one_group(cls, group: int, channels: int) -> 'Side':
        return cls(np.full(channels, group), np.arange(channels))

    @property
    def groups(self) -> set[int]:
        return set(np.unique(self.group).tolist()) - {FIXED}

    def stays(self, kept: np.ndarray) -> np.ndarray:
        """Return which entries stay, bool [entries], given how many units each group keeps."""
        return (self.group == FIXED) | (self.rank < kept[self.group])

    def ranges(self, kept: np.ndarray) -> Ranges | None:
        """Return the runs of entries that stay; None if all entries stay."""
        stays = self.stays(kept)
        if stays.all():
            return None
        edges = np.flatnonzero(np.diff(np.concatenate(([0], stays, [0]))))
        return tuple((int(start), int(stop - start)) for start, stop in edges.reshape(-1, 2))


Number = Side | tuple[Side | None, ...]  # the entries that an integer counts; a tuple for the items of a tuple or list


@dataclass(frozen=True)
class Plan:
    """Groups of channels of a network, and how tensors and attributes consist of these groups.

    Args:
        groups: The groups, numbered by position.
        tensors: Name of each sliced parameter or buffer -> sides of the dimensions (None: never sliced).
        numbers: 'module.attribute' of each integer that counts channels -> the channels that it counts.
        blocks: Names of the residual blocks that can be skipped, in the network's order.
        frozen: Groups that stay at full width, because the code between their layers mixes channels.
    """
    groups: tuple[Group, ...]
    tensors: dict[str, tuple[Side | None, ...]]
    numbers: dict[str, Number] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    frozen: frozenset[int] = frozenset()

    def kept_units(self, subnet: Subnet) -> np.ndarray:
        """Return how many units of each group are kept, int [groups]; frozen groups keep all."""
        return np.array([group.units if index in self.frozen else group.kept(subnet)
                         for index, group in enumerate(self.groups)], dtype=np.int64)

    def ranges(self, subnet: Subnet) -> dict[str, tuple[Ranges | None, ...]]:
        """Return the kept runs of each dimension (None: all), for each tensor of which a sub-network keeps a part."""
        kept = self.kept_units(subnet)
        known: dict[int, Ranges | None] = {}

        def ranges_of(side: Side | None) -> Ranges | None:
            if side is None:
                return None
            if id(side) not in known:
                known[id(side)] = side.ranges(kept)
            return known[id(side)]

        runs = {name: tuple(map(ranges_of, sides)) for name, sides in self.tensors.items()}
        return {name: dims for name, dims in runs.items() if any(dim is not None for dim in dims)}

    def counts(self, subnet: Subnet) -> dict[str, int | tuple[int | None, ...]]:
        """Return the value of each counting attribute in a sub-network (items that are None do not change)."""
        kept = self.kept_units(subnet)

        def count(side: Side | None) -> int | None:
            return None if side is None else int(side.stays(kept).sum())

        return {name: tuple(map(count, number)) if isinstance(number, tuple) else count(number)
                for name, number in self.numbers.items()}
