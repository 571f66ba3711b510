"""Settings whose training costs at most a given multiple of plain training."""
import math
from collections.abc import Callable, Container, Iterator
from dataclasses import replace

from .presets import BUDGETS, DEFAULT, PRESETS
from .settings import GradAugSettings

INTERVALS = tuple(range(1, 9))
FRACTIONS = tuple(percent / 100 for percent in range(100, 24, -1))
CHOSEN = ('interval', 'batch_fraction')  # what a limit makes smaller; the first is given up last


def choose_preset(
        preset: str | None,
        budget: float | None,
        settings_of: Callable[[str], GradAugSettings],
        cost: Callable[[GradAugSettings], float],
        *,
        given: Container[str] = (),
) -> tuple[str, GradAugSettings]:
    """Return a preset and its settings, within a budget and the limit of the preset.

    A budget chooses the most expensive preset that fits, unless one is named. Where that costs too much, its
    sub-networks see a part of the batch, and if need be are trained in some of the steps.

    Args:
        preset: Name of the preset; None for the default, or for the choice of the budget.
        budget: The most that training may cost, relative to plain training; None for no budget.
        settings_of: Gives the settings of a preset, with the given ones in their place.
        cost: Gives the cost of settings.
        given: Names of settings that stay as they are.

    Raises:
        ValueError: Nothing fits into the budget.

    Example:
        >>> from gradaug_timm import GradAugSettings
        >>> from gradaug_timm.task.budget import choose_preset
        >>> costs = {3: 2.7, 2: 1.6, 1: 1.2}  # by the number of sub-networks
        >>> settings_of = lambda name: GradAugSettings.preset(224, name)
        >>> choose_preset(None, 2.0, settings_of, lambda settings: costs[settings.subnets])[0]
        'default'
    """
    if preset is None and budget is not None:
        preset, settings = _most_expensive(budget, settings_of, cost, given)
    else:
        preset = preset or DEFAULT
        settings = _within(settings_of(preset), BUDGETS.get(preset, math.inf), cost, given)
    if budget is None or cost(settings) <= budget:
        return preset, settings
    settings = _within(settings, budget, cost, given)
    if cost(settings) > budget:
        raise ValueError(
            f'--gradaug-budget {budget:g} must be at least {math.ceil(100 * cost(settings)) / 100:.2f}, the cost of '
            'the cheapest settings with the flags of GradAug that are given')
    return preset, settings


def _most_expensive(
        budget: float,
        settings_of: Callable[[str], GradAugSettings],
        cost: Callable[[GradAugSettings], float],
        given: Container[str],
) -> tuple[str, GradAugSettings]:
    """Return the most expensive preset within the budget, or the cheapest if none is."""
    presets = {name: _within(settings_of(name), BUDGETS.get(name, math.inf), cost, given) for name in PRESETS}
    costs = {name: cost(settings) for name, settings in presets.items()}
    fitting = [name for name in presets if costs[name] <= budget]
    chosen = max(fitting, key=costs.__getitem__) if fitting else min(presets, key=costs.__getitem__)
    return chosen, presets[chosen]


def _within(
        settings: GradAugSettings,
        most: float,
        cost: Callable[[GradAugSettings], float],
        given: Container[str],
) -> GradAugSettings:
    """Return the settings on as much of the batch as fits, or the cheapest if nothing fits."""
    if most == math.inf or cost(settings) <= most:  # the cost takes passes through the network
        return settings
    each = settings
    for each in _cheaper(settings, given):
        if cost(each) <= most:
            break
    return each


def _cheaper(settings: GradAugSettings, given: Container[str]) -> Iterator[GradAugSettings]:
    """Yield settings on smaller parts of the batch, then in fewer steps; settings in `given` are not changed."""
    intervals = [each for each in INTERVALS if each >= settings.interval]
    fractions = [each for each in FRACTIONS if each <= settings.batch_fraction]
    for interval in [settings.interval] if 'interval' in given else intervals:
        for fraction in [settings.batch_fraction] if 'batch_fraction' in given else fractions:
            yield replace(settings, interval=interval, batch_fraction=fraction)
