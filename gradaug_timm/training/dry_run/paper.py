"""Settings that differ from the paper (Yang, Zhu, Chen, 2020, section 4.1)."""
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ...task.presets import SMALL_IMAGE
from ...task.transformations import Resize
from ..arguments.checks import model_name

EVERYWHERE = dict(
    opt='sgd', momentum=0.9, decay_all_parameters=True, clip_grad=None, sched_on_updates=True, warmup_epochs=0,
    smoothing=0., keep_last_batch=True, no_aug=False, hflip=0.5, aa=None, reprob=0., mixup=0., amp=False,
    interpolation='bilinear', train_interpolation='bilinear', zero_init_last=False, gradaug_subnets=3,
    gradaug_rotation=(), gradaug_transforms=(), gradaug_weight=1., gradaug_temperature=1., gradaug_interval=1,
    gradaug_batch_fraction=1., gradaug_off_epoch=0, gradaug_size_epochs=0,
)
LARGE_IMAGES = dict(crop_pct=0.875, color_jitter=0.4, gradaug_sizes=(224, 192, 160, 128))
SMALL_IMAGES = dict(crop_pct=1., color_jitter=0., reflect_pad=4, gradaug_sizes=(32, 28, 24))
MODES: dict[str, dict] = dict(
    width=dict(gradaug_width_steps=0, gradaug_divisor=1, gradaug_statistics='full'),
    depth=dict(gradaug_min_survival=0.8, gradaug_statistics='all'),  # as in the released code
    both=dict(gradaug_mode='width'),
)
LARGEST, SMALLEST = 0.9, 0.8  # minimum widths of large and of small images
NETWORKS = dict(
    resnet50=dict(batch=512, epochs=120, lr=0.2, weight_decay=1e-4, sched='cosine', gradaug_mode='width'),
    wide_resnet28_10=dict(batch=128, epochs=200, lr=0.1, weight_decay=5e-4, sched='cosine', gradaug_mode='width'),
    pyramidnet200_a240=dict(
        batch=64, epochs=300, lr=0.25, weight_decay=1e-4, sched='multistep', decay_milestones=(150, 225),
        decay_rate=0.1, gradaug_mode='width'),
    resnet110_cifar=dict(batch=128, epochs=200, lr=0.1, weight_decay=1e-4, sched='cosine', gradaug_mode='depth'),
)
UNLESS = dict(  # conditions under which a setting has no effect
    hflip=lambda v: v['no_aug'],
    color_jitter=lambda v: v['no_aug'],
    reflect_pad=lambda v: v['no_aug'],
    train_interpolation=lambda v: v['no_aug'] or v['reflect_pad'] or v['zero_pad'],  # nothing is resized
    keep_last_batch=lambda v: v['mixup'] or v['cutmix'] or v['cutmix_minmax'],  # which need pairs
)


def recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the paper's settings for an image size and mode, and for its four networks also their own settings.

    Args:
        values: All settings, with `input_size` (channels, height and width) and `batch` (images per update).
    """
    small = max(values['input_size'][1:]) < SMALL_IMAGE
    mode = values['gradaug_mode']
    found = {**EVERYWHERE, **(SMALL_IMAGES if small else LARGE_IMAGES), **MODES[mode]}
    if mode == 'width':
        found['gradaug_min_width'] = SMALLEST if small else LARGEST
    name = model_name(values['model']).removeprefix('gradaug_')
    if name in NETWORKS and not {*values['model_kwargs']} - {'zero_init_last'} and small == (name != 'resnet50'):
        found.update(NETWORKS[name])
    return found


def deviations(values: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ from the paper: name, value, and value in the paper."""
    for name, wanted in recipe(values).items():
        says_nothing = UNLESS.get(name, lambda v: False)(values)
        if not says_nothing and not _equal(name, values, wanted):
            yield name, values[name], _as_fractions(wanted) if name == 'gradaug_sizes' else wanted


def _equal(name: str, values: Mapping[str, Any], wanted: Any) -> bool:
    value = values[name]
    if name == 'gradaug_sizes':
        return len({_pixels(sizes, values['input_size']) for sizes in (value, _as_fractions(wanted))}) == 1
    if isinstance(wanted, float) and value is not None:
        return math.isclose(value, wanted)
    return list(value) == list(wanted) if isinstance(wanted, tuple) else value == wanted


def _pixels(sizes: tuple, input_size: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Resize(size).output_size(*input_size[1:]) for size in sizes))


def _as_fractions(pixels: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(each / pixels[0] for each in pixels)
