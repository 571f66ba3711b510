"""Batches to evaluate on, and training batches for a sub-network's BatchNorm statistics."""
import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
from timm.data import MultiLabelTarget, create_loader, create_transform
from torch.utils.data import IterableDataset

from ..data import create_dataset, input_mode, leave_out_unreadable, replace_unreadable
from ..data.factory import are_parts, is_folder, split_folder
from ..data.tars import is_tar
from ..data.trial import check_image
from .classes import match_classes
from .settings import EvaluationSettings
from .trained import Trained


def open_split(
        args: EvaluationSettings,
        split: str,
        config: dict,
        *,
        num_classes: int,
        is_training: bool = False,
):
    """Open a split of the data set.

    As in timm, the path may also name the split itself: a folder of class folders.

    Raises:
        ValueError: The data set has no such split.
    """
    root = args.data or args.data_dir
    kwargs: dict[str, Any] = dict(
        split=split,
        is_training=is_training,
        download=args.dataset_download,
        load_bytes=args.tf_preprocessing,
        class_map=args.class_map,
        num_samples=args.num_samples,
        batch_size=args.batch_size,
        input_key=args.input_key,
        input_img_mode=input_mode(args.input_img_mode, config['input_size'][0]),
        target_key=args.target_key,
        trust_remote_code=args.dataset_trust_remote_code,
        seed=args.seed,
        lacking=True,  # `match_classes` rejects what can't be matched
    )
    if args.target_format == 'multihot':
        kwargs['target_format'] = 'multihot'
    if args.task == 'multilabel':
        kwargs['target_transform'] = MultiLabelTarget(num_classes, dense=args.target_format == 'multihot')
    if is_folder(args.dataset) and root and os.path.isdir(root) and not is_tar(root):
        _check_split(root, split, is_training=is_training)
    dataset = create_dataset(args.dataset, root=root, **kwargs)
    check_image(dataset, config['input_size'][0])
    return dataset


def evaluation_loader(
        args: EvaluationSettings,
        dataset,
        config: dict,
        *,
        device: torch.device,
        dtype: torch.dtype,
):
    """Return a loader of all images of the data set, in order."""
    loader = create_loader(
        dataset,
        input_size=config['input_size'],
        batch_size=args.batch_size,
        use_prefetcher=not args.no_prefetcher,
        interpolation=config['interpolation'],
        mean=config['mean'],
        std=config['std'],
        num_workers=args.workers,
        crop_pct=config['crop_pct'],
        crop_mode=config['crop_mode'],
        crop_border_pixels=args.crop_border_pixels,
        pin_memory=args.pin_mem,
        device=device,
        img_dtype=dtype,
        tf_preprocessing=args.tf_preprocessing,
    )
    leave_out_unreadable(loader)
    return loader


def training_batches(
        args: EvaluationSettings,
        trained: Trained,
        config: dict,
        *,
        num_classes: int,
        device: torch.device,
) -> Iterator[torch.Tensor]:
    """Yield random batches of training images, preprocessed as in evaluation.

    BatchNorm statistics must describe the images that the network is evaluated on, without random crops, colours and
    Mixup.
    """
    dataset = open_split(args, args.train_split, config, num_classes=num_classes, is_training=True)
    match_classes(trained, dataset, args, args.train_split)
    batch_size = args.batch_size
    if not isinstance(dataset, IterableDataset):
        batch_size = min(batch_size, len(dataset))
    loader = create_loader(
        dataset,
        input_size=config['input_size'],
        batch_size=batch_size,
        is_training=True,
        use_prefetcher=not args.no_prefetcher,
        mean=config['mean'],
        std=config['std'],
        num_workers=args.workers,
        persistent_workers=False,
        pin_memory=args.pin_mem,
        device=device,
    )
    dataset.transform = create_transform(
        config['input_size'],
        use_prefetcher=not args.no_prefetcher,
        interpolation=config['interpolation'],
        mean=config['mean'],
        std=config['std'],
        crop_pct=config['crop_pct'],
        crop_mode=config['crop_mode'],
        crop_border_pixels=args.crop_border_pixels,
        tf_preprocessing=args.tf_preprocessing,
    )
    replace_unreadable(loader)
    for input, _ in itertools.islice(loader, args.recalibration_batches):
        yield input.to(device)


def _check_split(root: str, split: str, *, is_training: bool) -> None:
    others = [name for name in ('train', 'validation', 'test') if split_folder(root, name)]
    if split_folder(root, split) is None and (others or is_training) and not are_parts(root, split):
        found = f'it has {" and ".join(others)}' if others else 'it has no folders of splits'
        flag = '--train-split' if is_training else '--split'
        raise ValueError(f'{flag} {split} does not exist in {root}: {found}')
