"""Data sets by name: timm's own and ours, with plain errors where data are missing."""
import os
from collections.abc import Callable

import timm.data

from ..cli import one_line
from .checks import check_class_folders
from .digits import DIGITS, Digits
from .stl10 import STL10_NAME, Stl10
from .tars import check_tar_splits, is_tar, open_tar, split_names

LAYOUT = 'expected DIR/train/CLASS/IMAGE and DIR/validation/CLASS/IMAGE'


def create_dataset(
        name: str,
        root: str | None = None,
        split: str = 'validation',
        *,
        input_img_mode: str = 'RGB',
        target_transform: Callable | None = None,
        **kwargs,
):
    """Data set `name` in timm's notation, `gradaug/mnist5k` or `gradaug/stl10`.

    As in timm, a folder that has no sub-folder for the split is read as a whole (`check_splits` tells).

    Raises:
        ValueError: Nothing to read was found; says which path and which layout were expected.
    """
    if name.lower() == STL10_NAME:
        return _create_stl10(root, split, download=kwargs.get('download', False))
    if name.lower().startswith('gradaug/'):
        if name.lower() != DIGITS:
            raise ValueError(f'--dataset {name} is unknown, under gradaug/ are {DIGITS} and {STL10_NAME}')
        return Digits(split, input_img_mode=input_img_mode, target_transform=target_transform)
    if not name and is_tar(root):
        return open_tar(
            root, split, input_img_mode=input_img_mode, target_transform=target_transform,
            class_map=kwargs.get('class_map'), load_bytes=kwargs.get('load_bytes', False))
    if not name:
        check_folder(root, split)
    if name.lower().startswith('torch/') and not root:
        raise ValueError(f'--data-dir is needed for --dataset {name}: the folder that holds it')
    try:
        dataset = timm.data.create_dataset(
            name, root=root, split=split, input_img_mode=input_img_mode, target_transform=target_transform, **kwargs)
    except (AssertionError, FileNotFoundError, ImportError, RuntimeError) as error:
        where = f'--dataset {name!r} with --data-dir {root} and split {split!r}'
        raise ValueError(f'{where}: {one_line(error, None)}') from error
    if not kwargs.get('class_map'):
        check_class_folders(dataset)
    return dataset


def _create_stl10(root: str | None, split: str, *, download: bool) -> Stl10:
    if not root:
        raise ValueError(f'--data-dir is needed for --dataset {STL10_NAME}: the folder that holds stl10_binary')
    try:
        return Stl10(root, split, download=download)
    except (OSError, RuntimeError) as error:
        raise ValueError(f'--dataset {STL10_NAME} isn\'t in --data-dir {root}: {error}') from error


def check_splits(root: str | None, train_split: str, val_split: str) -> None:
    """Raises ValueError where an image folder lacks a wanted split; timm would read the whole folder instead.

    Without a validation split the class folders may lie in `root` itself.
    """
    if is_tar(root):
        check_tar_splits(root, train_split, val_split)
        return
    check_folder(root)
    for split in (train_split, val_split) if val_split else ():
        if split_folder(root, split) is None:
            hint = ' (train without by --val-split "")' if split == val_split else ''
            found = ', '.join(sorted(os.listdir(root))[:5])
            raise ValueError(f'--data-dir {root} has no folder for split {split!r}{hint}; {LAYOUT}, found {found}')


def check_folder(root: str | None, split: str = '') -> None:
    """Raises ValueError unless `root`, or its folder for `split` where it has one, holds class folders."""
    if not root:
        raise ValueError(f'--data-dir is needed: the folder with the images ({LAYOUT}), or name a --dataset')
    if not os.path.isdir(root):
        raise ValueError(f'--data-dir {root} is no folder; {LAYOUT}')
    folder = split_folder(root, split) or root
    if not any(entry.is_dir() for entry in os.scandir(folder)):
        raise ValueError(f'{folder} has no class folders; {LAYOUT}')


def split_folder(root: str, split: str) -> str | None:
    """The folder of `split` under `root`, by its name or one of the names timm takes for it."""
    paths = (os.path.join(root, name) for name in split_names(split))
    return next((path for path in paths if os.path.isdir(path)), None)
