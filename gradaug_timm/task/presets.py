"""Presets: settings of GradAug by name and image size."""
from typing import Any

SMALL_IMAGE = 96  # pixels; below it the settings of the paper's CIFAR experiments hold
DEFAULT = 'default'
PRESETS: dict[str, dict[str, Any]] = {  # docs/results.md has their accuracy and cost
    'paper': dict(subnets=3, batch_fraction=1., width_steps=0, divisor=1),
    DEFAULT: dict(subnets=2, batch_fraction=0.5),
    'fast': dict(subnets=1, sizes=(0.5,)),
}
SMALL_IMAGES = dict(min_width=0.8, sizes=(1.0, 7 / 8, 3 / 4))
# The most multiply-adds, relative to plain training. Where a network needs more, as with one image size,
# sub-networks see a part of the batch. The time of a step grows more: 1.11 to 1.28 were measured on a CPU.
BUDGETS = {'fast': 1.12}


def preset_values(name: str, image_size: int, mode: str = 'width') -> dict[str, Any]:
    """Return the fields of GradAugSettings that a preset sets.

    Args:
        name: Name of the preset.
        image_size: The longer side of the training images, in pixels.
        mode: What varies in sub-networks: 'width', 'depth' or 'both'.

    Raises:
        ValueError: There is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f'GradAugSettings: name={name!r} must be one of {", ".join(PRESETS)}.')
    by_size = SMALL_IMAGES if image_size < SMALL_IMAGE else {}
    by_mode = {'statistics': 'all'} if name == 'paper' and mode == 'depth' else {}  # as in the released code
    return {**by_size, **by_mode, **PRESETS[name]}
