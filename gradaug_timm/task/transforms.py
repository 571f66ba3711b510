"""What a sub-network's input goes through: transformations of whole batches, which can be added by a decorator."""
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Any, ClassVar, TypeVar

import torch

from ..registry import Registry
from ..seeding import seeded
from ..upstream import suggest_memory_format

Choices = tuple[tuple[str, tuple], ...]  # names of transformations, and the values that each is drawn from


@dataclass(frozen=True)
class InputTransformation(ABC):
    """One way to transform a sub-network's batch, at the value that was drawn for that sub-network.

    A subclass sets the class attributes that differ, and `apply`; it is registered by `register_transform`.

    Args:
        value: What was drawn from the values given in the settings.
        seed: What random numbers of `apply` follow from; drawn with the value where the class `is_random`.

    Attributes:
        name: The name it is registered by.
        allowed: What values must be, in words that complete "crop=2 must be ...".
        is_random: Whether `apply` uses random numbers: those of `generator()`.
        only_resizes: Whether it changes nothing but height and width, so that boxes and masks can be resized with it.

    Example:
        >>> import torch
        >>> from gradaug_timm import InputTransformation
        >>> class Flip(InputTransformation):
        ...     def apply(self, images):
        ...         return images.flip(3) if self.value else images
        >>> Flip(1).apply(torch.arange(3.).view(1, 1, 1, 3)).flatten().tolist()
        [2.0, 1.0, 0.0]
    """
    name: ClassVar[str] = ''
    allowed: ClassVar[str] = 'a number'
    is_random: ClassVar[bool] = False
    only_resizes: ClassVar[bool] = False

    value: Any
    seed: int = 0

    @abstractmethod
    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Return the transformed batch [N, C, output height, output width] of `images` [N, C, H, W]."""

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the transformed batch, in pixels.

        Args:
            height: Pixels of the batch's.
            width: Likewise.
        """
        return height, width

    def changes(self, height: int, width: int) -> bool:
        """Return whether images of this size change at all; `apply` isn't called otherwise.

        Args:
            height: Pixels of the batch's.
            width: Likewise.
        """
        return True

    def describe(self) -> str:
        """Return what titles and errors say of it; nothing where it is not worth saying."""
        return f'{self.name} {self.value:.4g}' if isinstance(self.value, Real) else f'{self.name} {self.value}'

    def generator(self) -> torch.Generator:
        """Return a fresh generator on the CPU, which gives the same numbers on every rank and after a resume."""
        return seeded(self.seed)

    @classmethod
    def is_allowed(cls, value: Any) -> bool:
        """Return whether a converted value is in range."""
        return True

    @classmethod
    def parse(cls, given: Any) -> Any:
        """Convert a value from a number, or from text such as '0.75' or '6/7'.

        Raises:
            ValueError: It isn't allowed.
        """
        try:
            value = float(Fraction(given.strip())) if isinstance(given, str) else given
        except (ValueError, ZeroDivisionError):
            value = None
        is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not cls.is_allowed(value):
            raise ValueError(f'{cls.name}={given} must be {cls.allowed}')
        return value

    @classmethod
    def draw(cls, values: Sequence, generator: random.Random) -> 'InputTransformation':
        """Draw one of the values, and a seed where it is needed.

        Args:
            values: The values.
            generator: Keyed by (seed, step): every rank, and a resumed run, draws the same.
        """
        return cls(generator.choice(values), generator.getrandbits(63) if cls.is_random else 0)

    @classmethod
    def keeps_size(cls) -> bool:
        """Return whether height and width stay at every value."""
        return cls.output_size is InputTransformation.output_size


@dataclass(frozen=True)
class InputTransform:
    """All that a sub-network's input goes through.

    Args:
        steps: The transformations, in their order.
    """
    steps: tuple[InputTransformation, ...] = ()

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the transformed batch, in pixels."""
        for step in self.steps:
            height, width = step.output_size(height, width)
        return height, width

    def changes(self, height: int, width: int) -> bool:
        """Return whether images of this size change at all."""
        return any(step.changes(height, width) for step in self.steps)

    def describe(self) -> str:
        """Return what titles and errors say of it."""
        return ', '.join(filter(None, (step.describe() for step in self.steps)))


TRANSFORMS: Registry[str, type[InputTransformation]] = Registry('transformation')

Transformation = TypeVar('Transformation', bound=type[InputTransformation])


def register_transform(name: str) -> Callable[[Transformation], Transformation]:
    """Return a decorator that registers a subclass of InputTransformation.

    Sub-networks' images go through it where settings name it: `GradAugSettings(transforms={name: values})`, or
    `--gradaug-transforms name=value,value`.

    Args:
        name: Its name in settings.

    Raises:
        ValueError: Another one has that name.

    Example:
        >>> from gradaug_timm import GradAugSettings, InputTransformation, register_transform
        >>> @register_transform('dimmed')
        ... class Dimmed(InputTransformation):
        ...     def apply(self, images):
        ...         return images * self.value
        >>> GradAugSettings(transforms={'dimmed': (0.5, 1)}).transforms
        (('dimmed', (0.5, 1)),)
        >>> from gradaug_timm.task.transforms import TRANSFORMS
        >>> TRANSFORMS.remove('dimmed')
    """
    def register(cls: Transformation) -> Transformation:
        TRANSFORMS.add(name, cls)
        cls.name = name
        return cls
    return register


def apply_transform(x: torch.Tensor, transform: InputTransform) -> torch.Tensor:
    """Return the batch [N, C, H, W] as a sub-network sees it, in the same memory layout.

    Raises:
        ValueError: A transformation doesn't give the size that it says.
    """
    for step in transform.steps:
        if step.changes(*x.shape[-2:]):
            layout, shape = suggest_memory_format(x), (*x.shape[:2], *step.output_size(*x.shape[-2:]))
            x = step.apply(x).contiguous(memory_format=layout)
            if x.shape != shape:
                raise ValueError(f'transformation {step.name!r} at {step.value} gives {tuple(x.shape)}, not {shape}')
    return x


def parse_choices(given: Any, fields: Mapping[str, str]) -> tuple[Choices, list[str]]:
    """Convert what settings say of transformations.

    Args:
        given: Names with lists of values, or text such as '0.5,6/7': a mapping, or pairs.
        fields: The transformations that have settings of their own, by name.

    Returns:
        The choices by name; and a line for each problem.
    """
    try:
        pairs = dict(given)
    except (TypeError, ValueError):
        return (), [f'transforms={given!r} must be a mapping of names to lists of values']
    found, problems = [], []
    for name, values in sorted(pairs.items(), key=lambda pair: str(pair[0])):
        try:
            if name in fields:
                raise ValueError(f'{name} has a setting of its own, {fields[name]}')
            found.append((name, _parse_values(TRANSFORMS.find(name), values)))
        except ValueError as error:
            problems.append(f'transforms: {error}')
    return tuple(found), problems


def _parse_values(cls: type[InputTransformation], given: Any) -> tuple:
    """Convert values of a transformation from a list, text, or a single one."""
    if isinstance(given, str):
        given = given.split(',')
    values = tuple(given) if isinstance(given, Iterable) else (given,)
    if not values:
        raise ValueError(f'{cls.name} must have values to draw from: {cls.allowed}')
    return tuple(map(cls.parse, values))
