"""Flags of GradAug; each that isn't given takes the preset of the image size."""
import argparse
from dataclasses import fields

from ...cli import Keywords, StrictParser, ranged
from ...task.settings import GradAugSettings
from .values import COUNT, DEGREES, NATURAL, NON_NEGATIVE, POSITIVE, SHARE, fraction_or_pixels

PREFIX = 'gradaug_'


def add_gradaug(parser: StrictParser):
    """Sub-networks and what they see."""
    add = parser.add_argument_group('GradAug').add_argument
    add('--gradaug', action=argparse.BooleanOptionalAction, help='sub-networks (default: on for models gradaug_*)')
    add('--gradaug-subnets', type=COUNT, metavar='N', help='sub-networks a step')
    add('--gradaug-mode', choices=('width', 'depth', 'both'), help='what sub-networks are smaller in')
    add('--gradaug-min-width', type=SHARE, metavar='W', help='smallest width')
    add('--gradaug-width-steps', type=COUNT, metavar='N', help='steps from there to 1, 0: continuous as in the paper')
    add('--gradaug-divisor', type=NATURAL, metavar='N', help='channels are multiples of it, 1 as in the paper')
    add('--gradaug-sizes', type=fraction_or_pixels, nargs='+', metavar='SIZE',
        help='image sizes of sub-networks: pixels, or fractions such as 6/7')
    add('--gradaug-rotation', type=DEGREES, nargs='+', metavar='DEG', help='angles, one is drawn a sub-network')
    add('--gradaug-transforms', nargs='+', action=Keywords, metavar='NAME=V,V',
        help='further transformations of sub-networks\' images, each with the values to draw from')
    add('--gradaug-min-survival', type=ranged(float, minimum=0, maximum=1), metavar='P',
        help='probability that the last block stays (depth)')
    add('--gradaug-statistics', choices=('full', 'all'),
        help='whose passes BatchNorm\'s running statistics follow: the full network\'s, or all (depth only)')
    add('--gradaug-weight', type=NON_NEGATIVE, metavar='W', help='weight of each sub-network\'s loss')
    add('--gradaug-temperature', type=POSITIVE, metavar='T', help='temperature of the soft targets')
    add('--gradaug-interval', type=NATURAL, metavar='K', help='sub-networks on every K-th step only')
    add('--gradaug-batch-fraction', type=SHARE, metavar='F', help='sub-networks see this share of the batch')
    add('--gradaug-off-epoch', type=COUNT, metavar='N', help='no sub-networks from this epoch on, 0: never off')
    add('--gradaug-size-epochs', type=COUNT, metavar='N',
        help='lower sizes first: all of them are drawn from epoch N on, 0: from the beginning')
    add('--gradaug-budget', type=ranged(float, above=1), metavar='C',
        help='cost of training relative to plain training, within which sub-networks, their share of the batch, and '
             'the interval are chosen as far as they are not given')


def given_flags(args: argparse.Namespace) -> dict:
    """The flags of GradAug that the command line or the YAML file gives, by name without prefix."""
    given = {name.removeprefix(PREFIX): value for name, value in vars(args).items() if name.startswith(PREFIX)}
    return {name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items() if value is not None}


def given_settings(args: argparse.Namespace) -> dict:
    """The fields of GradAugSettings among them."""
    names = {field.name for field in fields(GradAugSettings)}
    return {name: value for name, value in given_flags(args).items() if name in names}
