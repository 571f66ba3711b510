"""The plan of a network: which channels of which layers are kept or dropped together."""
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from .layers import LAYERS, Ranges
from .subnet import Subnet

FIXED = -1  # the group of channels that every sub-network keeps


@dataclass(frozen=True)
class Group:
    """Interchangeable units, of which a sub-network keeps the first.

    Args:
        units: Number of units.
        size: Channels in a unit (1, or what a grouped convolution or a GroupNorm ties together).
        expansion: 4 for the inner channels of bottlenecks, counted by the paper from their output (Subnet.kept).
    """
    units: int
    size: int = 1
    expansion: int = 1

    def kept(self, subnet: Subnet) -> int:
        """How many units a sub-network keeps."""
        return subnet.kept(self.units * self.size, unit=self.size, expansion=self.expansion) // self.size


@dataclass(frozen=True, eq=False)
class Side:
    """The channels of one side of a layer: the group of each (or FIXED), and its unit's place in that group."""
    group: np.ndarray
    rank: np.ndarray

    @classmethod
    def of_one_group(cls, group: int, channels: int) -> 'Side':
        return cls(np.full(channels, group), np.arange(channels))

    def ranges(self, kept: np.ndarray) -> Ranges | None:
        """The runs of kept channels, given how many units each group keeps; None where all stay."""
        stays = (self.group == FIXED) | (self.rank < kept[self.group])
        if stays.all():
            return None
        edges = np.flatnonzero(np.diff(np.concatenate(([0], stays, [0]))))
        return tuple((int(start), int(stop - start)) for start, stop in edges.reshape(-1, 2))


@dataclass(frozen=True)
class Plan:
    """Groups of a network and the two sides of its layers, by module name.

    Args:
        groups: The groups, numbered by position.
        layers: For each sliced layer its input and output side (None: never sliced).
        blocks: Names of the residual blocks that can be skipped, in the network's order.
    """
    groups: tuple[Group, ...]
    layers: dict[str, tuple[Side | None, Side | None]]
    blocks: tuple[str, ...] = ()
    frozen: frozenset[int] = field(default=frozenset())

    def kept_units(self, subnet: Subnet) -> np.ndarray:
        """Units kept in each group, int [groups]; frozen ones stay whole."""
        return np.array([group.units if index in self.frozen else group.kept(subnet)
                         for index, group in enumerate(self.groups)], dtype=np.int64)

    def ranges(self, subnet: Subnet) -> dict[str, tuple[Ranges | None, Ranges | None]]:
        """For each layer the kept runs of its input and output channels."""
        kept = self.kept_units(subnet)
        return {
            name: tuple(None if side is None else side.ranges(kept) for side in sides)
            for name, sides in self.layers.items()
        }


def prefix_plan(model: nn.Module, *, first: str, classifier: str | None, blocks: tuple[str, ...]) -> Plan:
    """The plan of a network in which every layer keeps a prefix of its own, whatever its neighbours keep.

    Args:
        model: A network whose additions pad with zero channels.
        first: Name of the layer that takes the image.
        classifier: Name of the layer that gives the logits, if there is one.
        blocks: Names of the blocks that can be skipped.
    """
    groups: dict[int, int] = {}

    def prefix(channels: int) -> Side:
        return Side.of_one_group(groups.setdefault(channels, len(groups)), channels)

    layers = {}
    for name, module in model.named_modules():
        if type(module) in LAYERS:
            inp, out = LAYERS[type(module)].sides(module)
            layers[name] = (
                None if inp is None or name == first else prefix(inp),
                None if name == classifier else prefix(out),
            )
    return Plan(tuple(Group(channels) for channels in groups), layers, blocks)
