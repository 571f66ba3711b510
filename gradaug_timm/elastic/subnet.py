"""Which sub-network: a width and the blocks that are left out."""
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real


@dataclass(frozen=True)
class Subnet:
    """A sub-network: the first channels of every layer, without the skipped blocks.

    Args:
        width: Share of channels that is kept, in (0, 1].
        divisor: Channel counts are rounded to multiples of it; 1 gives the paper's `floor(width * C + 0.5)`.
        skipped: Indexes of the residual blocks that are left out (their shortcut stays).
        updates_statistics: In training, BatchNorm's running statistics follow its batches too; at width 1 only.

    Raises:
        ValueError: An argument is out of its range.
    """
    width: float = 1.0
    divisor: int = 8
    skipped: tuple[int, ...] = ()
    updates_statistics: bool = False

    def __post_init__(self):
        if not _is(Real, self.width) or not 0 < self.width <= 1:
            raise ValueError(f'Subnet width={self.width!r} must be above 0 and at most 1.')
        if not _is(Integral, self.divisor) or self.divisor < 1:
            raise ValueError(f'Subnet divisor={self.divisor!r} must be an integer of at least 1.')
        if not isinstance(self.skipped, Iterable) or not all(_is(Integral, i) and i >= 0 for i in self.skipped):
            raise ValueError(f'Subnet skipped={self.skipped!r} must hold block indexes of at least 0.')
        if self.updates_statistics and self.width != 1:
            raise ValueError(
                f'Subnet updates_statistics=True must be False at width={self.width!r}, whose statistics are others.')
        object.__setattr__(self, 'width', float(self.width))
        object.__setattr__(self, 'divisor', int(self.divisor))
        object.__setattr__(self, 'skipped', tuple(sorted({int(index) for index in self.skipped})))

    def kept(self, channels: int, *, unit: int = 1, expansion: int = 1) -> int:
        """How many of `channels` stay: rounded half up to multiples of the divisor, in whole units of `unit` channels.

        With divisor 1 the paper counts the inner channels of a bottleneck from its output, `expansion` times as many,
        and rounds the quotient down: 64 channels at width 0.9 keep 57, not 58.

        Args:
            channels: Those of the full layer.
            unit: Channels that stay or go together, such as those of a head.
            expansion: How many times as many the output of the layer's block has.
        """
        if self.width == 1:
            return channels
        step = math.lcm(self.divisor, unit)
        if step == 1 and expansion > 1:
            return max(1, math.floor(expansion * self.width * channels + 0.5) // expansion)
        return min(channels, max(step, math.floor(self.width * channels / step + 0.5) * step))


def _is(kind: type, value) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
