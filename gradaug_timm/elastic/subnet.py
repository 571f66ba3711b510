"""Description of a sub-network: a width and the blocks that are skipped."""
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real


@dataclass(frozen=True)
class Subnet:
    """Sub-network: the first channels of every layer, without the skipped blocks.

    Args:
        width: Share of channels that is kept, in (0, 1].
        divisor: Channel counts are rounded to multiples of it; 1 gives the paper's `floor(width * C + 0.5)`.
        skipped: Indexes of the residual blocks that are skipped (the shortcut still runs).
        updates_statistics: Update BatchNorm's running statistics in training; only at width 1.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from gradaug_timm import Subnet
        >>> Subnet(width=0.9).kept(64), Subnet(width=0.9, divisor=1).kept(64)
        (56, 58)
        >>> Subnet(skipped=(3, 1)).skipped
        (1, 3)
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
                f'Subnet updates_statistics=True must be False at width={self.width!r}: only the full width has the '
                'statistics of the full network.')
        object.__setattr__(self, 'width', float(self.width))
        object.__setattr__(self, 'divisor', int(self.divisor))
        object.__setattr__(self, 'skipped', tuple(sorted({int(index) for index in self.skipped})))

    def kept(self, channels: int, *, unit: int = 1, expansion: int = 1) -> int:
        """Return how many of `channels` stay.

        The number is rounded half up to a multiple of the divisor and to whole units of `unit` channels. With divisor
        1 the paper counts the inner channels of a bottleneck from the block's output, which has `expansion` times as
        many, and rounds the quotient down: 64 channels at width 0.9 keep 57, not 58.

        Args:
            channels: Channels of the full layer.
            unit: Channels that are kept or dropped together, such as those of an attention head.
            expansion: Output channels of the layer's block, divided by `channels`.
        """
        if self.width == 1:
            return channels
        step = math.lcm(self.divisor, unit)
        if step == 1 and expansion > 1:
            return max(1, math.floor(expansion * self.width * channels + 0.5) // expansion)
        return min(channels, max(step, math.floor(self.width * channels / step + 0.5) * step))


def _is(kind: type, value) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
