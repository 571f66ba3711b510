"""Which flags `--device-augment` leaves without a meaning."""
from collections.abc import Iterator

from ...cli import flag
from .criteria import mixing_active
from .settings import TrainSettings

_LOADING = (
    'no_prefetcher', 'pin_mem', 'use_multi_epochs_loader', 'aug_repeats', 'aug_splits', 'resplit', 'train_img_sizes',
)
_AUGMENTATION = ('train_crop_mode', 'pca_lighting', 'grayscale_prob', 'gaussian_blur_prob', 'aa', 'reprob')


def device_augment_problems(args: TrainSettings) -> Iterator[str]:
    """One line for all flags that name something else than pad, crop, flip and normalise, and one for each other."""
    names = _LOADING if args.no_aug else _LOADING + _AUGMENTATION
    given = [flag(name) for name in names if getattr(args, name)]
    changes = [f'leave out {", ".join(given)}'] if given else []
    if args.color_jitter and not args.no_aug:
        changes.append('set --color-jitter 0')
    if not (args.no_aug or args.reflect_pad or args.zero_pad):
        changes.append('give --reflect-pad N, --zero-pad N or --no-aug instead of the random resized crop')
    if changes:
        yield f'--device-augment pads, crops, flips and normalises, nothing else: {", ".join(changes)}'
    if mixing_active(args) and args.mixup_mode == 'half':
        yield '--mixup-mode half must be batch, pair or elem with --device-augment'
