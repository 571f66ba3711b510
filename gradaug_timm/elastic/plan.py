"""The plan of a network: which channels of which tensors are kept or dropped together."""
from dataclasses import dataclass, field

import numpy as np

from .slicing import Ranges
from .subnet import Subnet

FIXED = -1  # the group of channels that every sub-network keeps


@dataclass(frozen=True)
class Group:
    """Interchangeable units, of which a sub-network keeps the first.

    Args:
        units: Number of units.
        size: Channels in a unit (1, or what a grouped convolution, a GroupNorm or an attention head ties together).
        step: Units that are kept or dropped at a time, where another group of as many channels has larger ones.
        expansion: 4 for the inner channels of bottlenecks, counted by the paper from their output (Subnet.kept).
    """
    units: int
    size: int = 1
    step: int = 1
    expansion: int = 1

    def kept(self, subnet: Subnet) -> int:
        """How many units a sub-network keeps."""
        channels = subnet.kept(self.units * self.size, unit=self.size * self.step, expansion=self.expansion)
        return channels // self.size


@dataclass(frozen=True, eq=False)
class Side:
    """The entries of one dimension of a tensor: the group of each (or FIXED), and its unit's place in that group."""
    group: np.ndarray
    rank: np.ndarray

    @classmethod
    def of_one_group(cls, group: int, channels: int) -> 'Side':
        return cls(np.full(channels, group), np.arange(channels))

    @property
    def groups(self) -> set[int]:
        return set(np.unique(self.group).tolist()) - {FIXED}

    def stays(self, kept: np.ndarray) -> np.ndarray:
        """Which entries stay, bool [entries], given how many units each group keeps."""
        return (self.group == FIXED) | (self.rank < kept[self.group])

    def ranges(self, kept: np.ndarray) -> Ranges | None:
        """The runs of entries that stay; None where all do."""
        stays = self.stays(kept)
        if stays.all():
            return None
        edges = np.flatnonzero(np.diff(np.concatenate(([0], stays, [0]))))
        return tuple((int(start), int(stop - start)) for start, stop in edges.reshape(-1, 2))


Number = Side | tuple[Side | None, ...]  # what an integer counts; for a tuple or list, what each of its items counts


@dataclass(frozen=True)
class Plan:
    """Groups of a network, and what of its tensors and attributes they are.

    Args:
        groups: The groups, numbered by position.
        tensors: For each sliced parameter or buffer the sides of its dimensions (None: never sliced).
        numbers: For each attribute that counts channels, by 'module.attribute', what it counts.
        blocks: Names of the residual blocks that can be skipped, in the network's order.
        frozen: Groups that are kept whole, since what is between their layers mixes channels.
    """
    groups: tuple[Group, ...]
    tensors: dict[str, tuple[Side | None, ...]]
    numbers: dict[str, Number] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    frozen: frozenset[int] = frozenset()

    def kept_units(self, subnet: Subnet) -> np.ndarray:
        """Units kept in each group, int [groups]; frozen ones stay whole."""
        return np.array([group.units if index in self.frozen else group.kept(subnet)
                         for index, group in enumerate(self.groups)], dtype=np.int64)

    def ranges(self, subnet: Subnet) -> dict[str, tuple[Ranges | None, ...]]:
        """For each tensor of which a sub-network keeps a part the kept runs of its dimensions (None: all)."""
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
        """What each attribute counts in a sub-network (items of None stay what they are)."""
        kept = self.kept_units(subnet)

        def count(side: Side | None) -> int | None:
            return None if side is None else int(side.stays(kept).sum())

        return {name: tuple(map(count, number)) if isinstance(number, tuple) else count(number)
                for name, number in self.numbers.items()}
