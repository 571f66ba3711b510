"""Record of a probed forward pass."""
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch.autograd.graph import GradientEdge

from .numbers import TrackedInt

Key = tuple[str, int]  # name of a parameter or buffer, and a dimension; or name of a tensor in between layers, and 0


class Leaf(NamedTuple):
    """Tensor at which differentiation ends, with the key of each dimension (None: not a dimension of channels)."""
    tensor: torch.Tensor | GradientEdge
    keys: tuple[Key | None, ...]
    is_output: bool
    shape: torch.Size


class Use(NamedTuple):
    """Dimension of a tensor that a layer uses as channels."""
    tensor: torch.Tensor
    dim: int
    key: Key


class Sized(NamedTuple):
    """Dimension of a tensor whose length the model took from a number, or every `step`-th channel of a layer."""
    number: TrackedInt
    tensor: torch.Tensor | None
    dim: int
    key: Key | None = None
    step: int = 1


@dataclass
class Trace:
    """Record of a probed forward pass.

    Args:
        channels: Key -> number of entries.
        leaves: The constants that replaced outputs of layers, and the network's parameters and buffers.
        uses: The dimensions that layers use as channels.
        ties: Pairs of keys with the indexes that belong together.
        layers: Number of layers that ran.
        made: Keys of the output channels of layers with parameters.
        used: Keys of the channels that layers and normalisations use.
        consumed: Keys of the input channels of layers.
        inputs: Name of a layer's weight -> key of the input channels.
        sized: The dimensions whose length comes from an attribute.
        result: The network's outputs.
    """
    channels: dict[Key, int] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    ties: list[tuple[Key, np.ndarray, Key, np.ndarray]] = field(default_factory=list)
    layers: int = 0
    made: list[Key] = field(default_factory=list)
    used: list[Key] = field(default_factory=list)
    consumed: list[Key] = field(default_factory=list)
    inputs: dict[str, Key] = field(default_factory=dict)
    sized: list[Sized] = field(default_factory=list)
    result: list[torch.Tensor] = field(default_factory=list)

    def tie(self, a: Key, b: Key) -> None:
        """Tie all channels of one key to the channels of another key, in order."""
        if a != b:
            indexes = np.arange(self.channels[a])
            self.ties.append((a, indexes, b, indexes))
