"""What a forward pass of a probed network leaves behind."""
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch.autograd.graph import GradientEdge

from .numbers import TrackedInt

Key = tuple[str, int]  # a parameter or buffer by name, and a dimension of it; or the name of a tensor in between, and 0


class Leaf(NamedTuple):
    """A tensor at which differentiation ends, with the keys of its dimensions (None: it isn't one of channels)."""
    tensor: torch.Tensor | GradientEdge
    keys: tuple[Key | None, ...]
    is_output: bool
    shape: torch.Size


class Use(NamedTuple):
    """A dimension of a tensor that a layer uses as its channels."""
    tensor: torch.Tensor
    dim: int
    key: Key


class Sized(NamedTuple):
    """A dimension of a tensor whose length the model took from a number, or a layer's channels, `step` apart."""
    number: TrackedInt
    tensor: torch.Tensor | None
    dim: int
    key: Key | None = None
    step: int = 1


@dataclass
class Trace:
    """What a forward pass of a probed network leaves behind.

    Args:
        channels: Number of entries by key.
        leaves: The constants that replaced outputs of layers, and the network's parameters and buffers.
        uses: The dimensions that layers use as channels.
        ties: Pairs of keys with the indexes that belong together.
        layers: How many layers ran.
        made: Keys of the output channels of layers with parameters.
        used: Keys of the channels that layers and normalisations use.
        consumed: Keys of the input channels of layers.
        inputs: The key of the input channels of the layers with these weights.
        sized: The dimensions that attributes tell the length of.
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
        """All channels of one key belong to those of another, in order."""
        if a != b:
            indexes = np.arange(self.channels[a])
            self.ties.append((a, indexes, b, indexes))
