"""Settings whose training costs at most a given multiple of plain training."""
import itertools
import math
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace

from .presets import BUDGETS, DEFAULT, PRESETS
from .settings import GradAugSettings

ENOUGH = 0.9  # settings that use so much of what the best use are as good
INTERVALS = tuple(range(1, 9))
FRACTIONS = tuple(percent / 100 for percent in range(100, 24, -1))
CHOSEN = ('interval', 'batch_fraction', 'subnets')  # what a budget chooses; the first is given up last
MOST = PRESETS['paper']['subnets']  # sub-networks


def within_budget(
        settings: GradAugSettings,
        budget: float,
        cost: Callable[[GradAugSettings], float],
        *,
        given: Container[str] = (),
) -> GradAugSettings:
    """Return the settings with as many sub-networks on as many images as a budget allows.

    The most are those of the preset `paper`, on all images. Of those that fit and use nearly as much of the budget as
    any, the most preferred are taken: two sub-networks on as large a part of the batch as possible, then a longer
    interval. One on all images costs as much as two on half of them, and regularised less where it was tried
    (docs/experiments.md).

    Args:
        settings: The settings that stay as they are, apart from what is chosen.
        budget: The most that training may cost, relative to plain training.
        cost: Gives the cost of settings.
        given: Names of settings that stay as they are.

    Raises:
        ValueError: None fit.
    """
    costs = {each: cost(each) for each in candidates(settings, given)}
    fitting = {each: each_cost for each, each_cost in costs.items() if each_cost <= budget}
    if not fitting:
        cheapest = math.ceil(100 * min(costs.values())) / 100
        raise ValueError(
            f'--gradaug-budget {budget:g} must be at least {cheapest:.2f}, the cost of the cheapest settings with the '
            'flags of GradAug that are given')
    least = 1 + ENOUGH * (max(fitting.values()) - 1)
    return next(each for each, each_cost in fitting.items() if each_cost >= least)


def within_preset(
        settings: GradAugSettings,
        preset: str | None,
        cost: Callable[[GradAugSettings], float],
        *,
        given: Iterable[str] = (),
) -> GradAugSettings:
    """Return the settings of a preset, on a smaller part of the batch if they cost more than the preset allows.

    Args:
        settings: The settings of the preset with the given ones in their place.
        preset: Name of the preset; None for the default.
        cost: Gives the cost of settings.
        given: Names of settings that stay as they are; if these cost too much, so does the result.
    """
    most = BUDGETS.get(preset or DEFAULT)
    if most is None or cost(settings) <= most:
        return settings
    return next((each for each in candidates(settings, {'subnets', *given}) if cost(each) <= most), settings)


def candidates(settings: GradAugSettings, given: Container[str] = ()) -> Iterator[GradAugSettings]:
    """Yield the settings that a budget chooses from, the preferred first; settings in `given` are not changed."""
    free = [name for name in CHOSEN if name not in given]
    for subnets in (range(MOST, 1, -1), [1]):
        values = {'interval': INTERVALS, 'batch_fraction': FRACTIONS, 'subnets': subnets}
        for combination in itertools.product(*(values[name] for name in free)):
            yield replace(settings, **dict(zip(free, combination)))  # type: ignore[arg-type]
