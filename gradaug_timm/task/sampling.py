"""The draws of a step: sub-networks and the transformations of their inputs, from (seed, step) alone."""
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from ..elastic.subnet import Subnet
from ..seeding import random_of
from .settings import Choice, GradAugSettings
from .transforms import InputTransform, InputTransformation


@dataclass(frozen=True)
class Draw:
    """One sub-network of a step, and the transformations of its input."""
    subnet: Subnet
    transform: InputTransform


def draw_step(settings: GradAugSettings, step: int, *, num_blocks: int) -> list[Draw]:
    """Return the sub-networks of training step `step`, the widest first (paper, section 3).

    The same on every rank and after a resume. With random width one of them has the minimum width.

    Args:
        settings: Settings of GradAug.
        step: Number of the step.
        num_blocks: Number of residual blocks that can be skipped.
    """
    generator = random_of(settings.seed, step)
    begun = [(_subnet(settings, width, num_blocks, generator), _draw_steps(settings.built_in, generator))
             for width in _draw_widths(settings, generator)]
    draws = [Draw(subnet, InputTransform(steps + _draw_steps(settings.registered, generator)))
             for subnet, steps in begun]  # after all others, which are the same with and without them
    return sorted(draws, key=lambda draw: -draw.subnet.width)


def possible_transforms(settings: GradAugSettings) -> Iterator[InputTransform]:
    """Yield every combination of values that transformations may draw, without random numbers."""
    choices = [*settings.built_in, *settings.registered]
    for values in itertools.product(*(values for _, values in choices)):
        yield InputTransform(tuple(cls(value) for (cls, _), value in zip(choices, values)))


def most_sizes(settings: GradAugSettings) -> int:
    """Return the largest number of image sizes that sub-networks see, for batches of one size."""
    choices = [*settings.built_in, *settings.registered]
    return math.prod(len(values) for cls, values in choices if not cls.keeps_size())


def width_grid(settings: GradAugSettings) -> tuple[float, ...]:
    """Return the grid of widths that sub-networks draw from, ascending; empty if widths are continuous."""
    low, steps = settings.min_width, settings.width_steps
    return tuple(round(low + (1 - low) * index / steps, 6) for index in range(steps + 1)) if steps else ()


def images_seen(batch: int, fraction: float) -> int:
    """Return how many images of a batch sub-networks see: at least two, because BatchNorm needs two."""
    return max(min(2, batch), math.floor(fraction * batch + 0.5))


def survival_probabilities(num_blocks: int, min_survival: float) -> list[float]:
    """Return the probability of keeping each block: from 1 at the first to `min_survival` at the last (paper)."""
    return [1 - (1 - min_survival) * index / max(1, num_blocks - 1) for index in range(num_blocks)]


def _subnet(settings: GradAugSettings, width: float, num_blocks: int, generator: random.Random) -> Subnet:
    skipped = _draw_skipped(settings, num_blocks, generator)
    return Subnet(width, settings.divisor, skipped, updates_statistics=settings.statistics == 'all')


def _draw_steps(choices: tuple[Choice, ...], generator: random.Random) -> tuple[InputTransformation, ...]:
    return tuple(cls.draw(values, generator) for cls, values in choices)


def _draw_widths(settings: GradAugSettings, generator: random.Random) -> list[float]:
    if not settings.random_width:
        return [1.0] * settings.subnets
    grid = width_grid(settings)
    drawn = [generator.choice(grid) if grid else generator.uniform(settings.min_width, 1.0)
             for _ in range(settings.subnets - 1)]
    return [*drawn, settings.min_width][:settings.subnets]


def _draw_skipped(settings: GradAugSettings, num_blocks: int, generator: random.Random) -> tuple[int, ...]:
    if not settings.random_depth:
        return ()
    survival = survival_probabilities(num_blocks, settings.min_survival)
    return tuple(index for index, kept in enumerate(survival) if generator.random() >= kept)
