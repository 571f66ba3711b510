"""Types of arguments, for texts on the command line and values in YAML files."""
import argparse
from collections.abc import Callable

from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform
from timm.optim import get_optimizer_info, list_optimizers

from ...cli import ranged
from ...hints import nearest
from .older_timm import METRICS, OPTIMIZERS

NATURAL = ranged(int, minimum=1)
COUNT = ranged(int, minimum=0)
NUMBER = ranged(float)
POSITIVE = ranged(float, above=0)
NON_NEGATIVE = ranged(float, minimum=0)
PROBABILITY = ranged(float, minimum=0, maximum=1)
BELOW_ONE = ranged(float, minimum=0, below=1)
SHARE = ranged(float, above=0, maximum=1)
PERCENT = ranged(float, minimum=0, maximum=100)
DEGREES = ranged(float, minimum=-360, maximum=360)
INTERPOLATIONS = ('', 'nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')


def fraction_or_pixels(text: str) -> float | int:
    """Return a size: `224` is in pixels; `0.75`, `6/7` and `1` are fractions of the image size of the batch."""
    numerator, slash, denominator = text.partition('/')
    try:
        value = float(numerator) / float(denominator) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        value = -1.
    if 0 < value <= 1:
        return value
    if value > 1 and value.is_integer() and not slash:
        return int(value)
    raise argparse.ArgumentTypeError(
        f'{text!r} must be a number of pixels above 1, or a fraction up to 1 such as 0.75 or 6/7')


def optimizer(text: str) -> str:
    """Return the name of an optimizer of timm, with or without the prefix `lookahead_`; reject other names."""
    name = text.lower().removeprefix('lookahead_')
    if name in OPTIMIZERS:
        return text.lower().replace(name, OPTIMIZERS[name])
    try:
        get_optimizer_info(name)
    except ValueError:
        close = nearest(name, map(str, list_optimizers()))
        hint = f', did you mean {close}?' if close else '; timm.optim.list_optimizers() lists them'
        raise argparse.ArgumentTypeError(f'{text!r} must be an optimizer of timm{hint}') from None
    return text


def metric(text: str) -> str:
    """Return today's name of a metric; other names unchanged."""
    return METRICS.get(text, text)


def augment_policy(text: str) -> str:
    """Return a policy of AutoAugment, RandAugment or AugMix in timm's notation; reject other texts."""
    for prefix, build in _POLICIES:
        if text.startswith(prefix):
            try:
                build(text, {'translate_const': 1, 'img_mean': (128, 128, 128)})
            except (AssertionError, KeyError, ValueError):
                break
            return text
    raise argparse.ArgumentTypeError(
        f'{text!r} must be a policy such as original, v0, 3a, rand-m9-mstd0.5-inc1 or augmix-m5-w4-d2')


_POLICIES: tuple[tuple[str, Callable], ...] = (
    ('rand', rand_augment_transform),
    ('augmix', augment_and_mix_transform),
    ('', auto_augment_transform),
)
