"""Settings of GradAug."""
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real

from .presets import DEFAULT, preset_values
from .transformations import Resize, Rotation
from .transforms import TRANSFORMS, InputTransformation, parse_choices

MODES = ('width', 'depth', 'both')
STATISTICS = ('full', 'all')
BUILT_IN: dict[str, type[InputTransformation]] = {'sizes': Resize, 'rotation': Rotation}  # by the field of their values

Choice = tuple[type[InputTransformation], tuple]  # a transformation, and the values that it is drawn from


@dataclass(frozen=True)
class GradAugSettings:
    """Settings of GradAug; the defaults are the paper's for ImageNet, on a grid of widths.

    Args:
        subnets: Sub-networks trained on a batch; 0 is plain training.
        mode: What varies in them: 'width', 'depth' or 'both'.
        min_width: Smallest width, in (0, 1]; with random width one sub-network always has it.
        width_steps: The other widths are drawn from `min_width` to 1 in this many equal steps; 0 draws any width (the
            paper's).
        divisor: Channel counts are rounded to its multiples; 1 is the paper's.
        sizes: Input sizes to draw from: fractions of the batch's (floats up to 1), or pixels of its longer side
            (integers above 1).
        rotation: Angles to draw from, in degrees; none: no rotation.
        transforms: Further transformations by their registered names, each with the values to draw from; images go
            through them in alphabetical order, after resizing and rotating. Kept as pairs of name and values.
        min_survival: Probability that the last residual block is kept, linear from 1 at the first (random depth).
        statistics: Whose passes BatchNorm's running statistics follow: those of the full network alone ('full'), or all
            (the original code with random depth; sub-networks must be as wide as the network).
        weight: Weight of each sub-network's loss.
        temperature: Temperature of both softmaxes; the loss is multiplied by its square.
        interval: Sub-networks are trained on every `interval`-th batch.
        batch_fraction: Share of the batch that sub-networks see, its first images; at least two, which BatchNorm needs.
        off_epoch: From this epoch on training is plain; 0: never.
        size_epochs: Until this epoch the sizes join one after the other, the smallest first; 0: all from the beginning.
        seed: The draws of a step depend on this and the step's number alone.

    Raises:
        ValueError: Names every value that is out of range, with the range.

    Example:
        >>> from gradaug_timm import GradAugSettings
        >>> GradAugSettings.preset(224).min_width, GradAugSettings.preset(32).min_width
        (0.9, 0.8)
        >>> GradAugSettings.preset(32, subnets=2, sizes=(1.0, 0.5)).sizes
        (1.0, 0.5)
    """
    subnets: int = 3
    mode: str = 'width'
    min_width: float = 0.9
    width_steps: int = 5
    divisor: int = 8
    sizes: tuple[float, ...] = (1.0, 6 / 7, 5 / 7, 4 / 7)
    rotation: tuple[float, ...] = ()
    transforms: Mapping[str, Iterable] | tuple[tuple[str, tuple], ...] = ()
    min_survival: float = 0.8
    statistics: str = 'full'
    weight: float = 1.0
    temperature: float = 1.0
    interval: int = 1
    batch_fraction: float = 1.0
    off_epoch: int = 0
    size_epochs: int = 0
    seed: int = 42

    def __post_init__(self):
        for name in ('sizes', 'rotation'):
            if isinstance(getattr(self, name), Iterable):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        transforms, problems = parse_choices(self.transforms, {cls.name: field for field, cls in BUILT_IN.items()})
        object.__setattr__(self, 'transforms', transforms)
        problems += [f'{name}={getattr(self, name)!r} must be {allowed}'
                     for name, (is_valid, allowed) in _RULES.items() if not is_valid(getattr(self, name))]
        if self.statistics == 'all' and self.mode in ('width', 'both'):
            problems.append(f"statistics='all' must be 'full' with mode={self.mode!r}: narrow layers would mix "
                            'statistics of different networks')
        if self.size_epochs and not problems and len({size > 1 for size in self.sizes}) > 1:
            problems.append(f'size_epochs={self.size_epochs!r} must be 0 with sizes={self.sizes!r}: which of fractions '
                            'and pixels are the smaller depends on the batch')
        if problems:
            raise ValueError(f'GradAugSettings: {"; ".join(problems)}.')

    @classmethod
    def preset(cls, image_size: int, name: str | None = None, **given) -> 'GradAugSettings':
        """Return the settings of a preset for an image size, with the `given` values in place of the preset's.

        Args:
            image_size: The longer side of the training images, in pixels.
            name: 'paper': as published; 'default', also for None: two sub-networks on half of the batch; 'fast': one at
                half the image size. `train.py` also keeps the cost of 'fast' within its limit for the network.
            **given: Fields that are set by hand.

        Raises:
            ValueError: There is no such preset, or a given value is out of range.
        """
        return cls(**{**preset_values(name or DEFAULT, image_size, given.get('mode', 'width')), **given})

    def at(self, epoch: int) -> 'GradAugSettings':
        """Return the settings of one epoch: without the sizes that join later, or without sub-networks."""
        if self.off_epoch and epoch >= self.off_epoch:
            return replace(self, subnets=0)
        if epoch >= self.size_epochs:
            return self
        sizes = sorted(set(self.sizes))
        largest = sizes[(len(sizes) - 1) * epoch // self.size_epochs]
        return replace(self, sizes=tuple(size for size in self.sizes if size <= largest))

    @property
    def built_in(self) -> tuple[Choice, ...]:
        """The built-in transformations that have values, with their values."""
        return tuple((cls, getattr(self, field)) for field, cls in BUILT_IN.items() if getattr(self, field))

    @property
    def registered(self) -> tuple[Choice, ...]:
        """The registered transformations, with their values.

        Raises:
            ValueError: One of them isn't registered in this process.
        """
        return tuple((TRANSFORMS.find(name), tuple(values)) for name, values in dict(self.transforms).items())

    @property
    def random_width(self) -> bool:
        """Whether sub-networks have fewer channels."""
        return self.mode in ('width', 'both')

    @property
    def random_depth(self) -> bool:
        """Whether sub-networks have fewer blocks."""
        return self.mode in ('depth', 'both')


def _integer(least: int):
    return lambda value: isinstance(value, Integral) and not isinstance(value, bool) and value >= least  # type: ignore[operator]


def _number(is_inside):
    return lambda value: isinstance(value, Real) and not isinstance(value, bool) and (
        math.isfinite(value) and is_inside(value))


_RULES = {
    'subnets': (_integer(0), 'an integer of at least 0'),
    'mode': (lambda value: value in MODES, f'one of {", ".join(MODES)}'),
    'min_width': (_number(lambda value: 0 < value <= 1), 'above 0 and at most 1'),
    'width_steps': (_integer(0), 'an integer of at least 0'),
    'divisor': (_integer(1), 'an integer of at least 1'),
    'sizes': (
        lambda value: isinstance(value, tuple) and len(value) > 0 and all(map(Resize.is_allowed, value)),
        'a list of fractions (floats above 0, at most 1.0) or pixels (integers above 1)'),
    'rotation': (
        lambda value: isinstance(value, tuple) and all(map(_number(Rotation.is_allowed), value)),
        'a list of degrees from -360 to 360'),
    'min_survival': (_number(lambda value: 0 <= value <= 1), 'from 0 to 1'),
    'statistics': (lambda value: value in STATISTICS, f'one of {", ".join(STATISTICS)}'),
    'weight': (_number(lambda value: value >= 0), 'at least 0'),
    'temperature': (_number(lambda value: value > 0), 'above 0'),
    'interval': (_integer(1), 'an integer of at least 1'),
    'batch_fraction': (_number(lambda value: 0 < value <= 1), 'above 0 and at most 1'),
    'off_epoch': (_integer(0), 'an integer of at least 0'),
    'size_epochs': (_integer(0), 'an integer of at least 0'),
    'seed': (_integer(0), 'an integer of at least 0'),
}
assert {*_RULES, 'transforms'} == {field.name for field in fields(GradAugSettings)}
