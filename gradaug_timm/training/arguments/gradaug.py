"""Settings of GradAug; settings that are not given take the preset of the image size."""
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...cli import Keywords, ranged
from ...flags import Role, Settings, needs, only_for, setting, toggle
from ...task.presets import DEFAULT, PRESETS
from ...task.settings import GradAugSettings
from .conditions import NO_TURN, ONE_SIZE, beyond_the_end
from .values import COUNT, DEGREES, NATURAL, NON_NEGATIVE, POSITIVE, SHARE, fraction_or_pixels

PREFIX = 'gradaug_'
BEFORE_PRESETS = dict(gradaug_subnets=3, gradaug_batch_fraction=1.)  # defaults before there were presets


@dataclass(frozen=True, kw_only=True)
class SubnetSettings(
        Settings, title='GradAug', role=Role.COMPARED, idle=(needs('gradaug'), needs('gradaug_subnets'))):
    """Sub-networks, their images and their loss."""

    gradaug: bool | None = toggle('train with GradAug (default: on for models named gradaug_*)')
    gradaug_preset: str | None = setting(
        None, f'preset for the flags of GradAug that are not given (default: {DEFAULT})', choices=tuple(PRESETS))
    gradaug_subnets: int | None = setting(None, 'sub-networks per step', type=COUNT, metavar='N')
    gradaug_mode: str | None = setting(
        None, 'make sub-networks narrower, shallower, or both', choices=('width', 'depth', 'both'))
    gradaug_min_width: float | None = setting(
        None, 'smallest width of sub-networks', type=SHARE, metavar='W', idle=only_for('gradaug_mode', 'width', 'both'))
    gradaug_width_steps: int | None = setting(
        None,
        'widths are drawn from a grid of so many steps from the smallest width to 1; 0: continuous, as in the paper',
        type=COUNT, metavar='N', idle=only_for('gradaug_mode', 'width', 'both'))
    gradaug_divisor: int | None = setting(
        None, 'sub-networks keep multiples of this number of channels; 1 as in the paper', type=NATURAL, metavar='N',
        idle=only_for('gradaug_mode', 'width', 'both'))
    gradaug_sizes: tuple[float | int, ...] | None = setting(
        None, 'image sizes that sub-networks draw from: pixels, or fractions such as 6/7', type=fraction_or_pixels,
        nargs='+', metavar='SIZE')
    gradaug_rotation: tuple[float, ...] | None = setting(
        None, 'angles in degrees that sub-networks draw from', type=DEGREES, nargs='+', metavar='DEG', idle=NO_TURN)
    gradaug_transforms: Mapping[str, Any] | None = setting(
        None, 'further transformations of the images of sub-networks, each with the values to draw from', nargs='+',
        action=Keywords, metavar='NAME=V,V')
    gradaug_min_survival: float | None = setting(
        None, 'random depth: probability that the last block is kept, linear from 1 at the first',
        type=ranged(float, minimum=0, maximum=1), metavar='P', idle=only_for('gradaug_mode', 'depth', 'both'))
    gradaug_statistics: str | None = setting(
        None,
        'passes that update the running statistics of BatchNorm: the full network, or all passes (random depth '
        'only)', choices=('full', 'all'))
    gradaug_weight: float | None = setting(
        None, 'weight of the loss of each sub-network', type=NON_NEGATIVE, metavar='W')
    gradaug_temperature: float | None = setting(
        None, 'temperature of the soft targets of sub-networks', type=POSITIVE, metavar='T')
    gradaug_interval: int | None = setting(
        None, 'train sub-networks on every K-th step only', type=NATURAL, metavar='K')
    gradaug_batch_fraction: float | None = setting(
        None, 'share of the batch that sub-networks see', type=SHARE, metavar='F')
    gradaug_off_epoch: int | None = setting(
        None, 'train without sub-networks from this epoch on; 0: never', type=COUNT, metavar='N',
        idle=beyond_the_end('gradaug_off_epoch'))
    gradaug_size_epochs: int | None = setting(
        None, 'start with the smaller image sizes and draw from all of them from epoch N on; 0: from the beginning',
        type=COUNT, metavar='N', idle=ONE_SIZE)
    gradaug_budget: float | None = setting(
        None,
        'the most that training may cost, in multiply-adds relative to plain training; chooses --gradaug-preset, and '
        'if need be a part of the batch and an interval, as far as they are not given',
        type=ranged(float, above=1), metavar='C')


def given_flags(args: SubnetSettings) -> dict:
    """Return the flags of GradAug that are given, by name without the prefix."""
    given = {name.removeprefix(PREFIX): value for name, value in vars(args).items() if name.startswith(PREFIX)}
    return {name: value for name, value in given.items() if value is not None}


def given_settings(args: SubnetSettings) -> dict:
    """Return the given flags that are fields of GradAugSettings."""
    names = {field.name for field in fields(GradAugSettings)}
    return {name: value for name, value in given_flags(args).items() if name in names}


def before_presets(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that a run did not give and whose defaults have changed, if it is from before the presets.

    Args:
        saved: The settings of the run, by name.
    """
    if 'gradaug_preset' in saved:
        return {}
    return {name: value for name, value in BEFORE_PRESETS.items() if saved.get(name) is None}
