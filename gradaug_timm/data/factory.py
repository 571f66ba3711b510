"""Data sets by name, timm's and ours, with clear errors if data are missing."""
import logging
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm.data
from torch.utils.data import Dataset, IterableDataset

from ..cli import flag, one_line
from .checks import check_layout
from .class_maps import read_class_map
from .class_names import listed
from .digits import DIGITS, Digits
from .fields import check_fields, first_samples
from .folders import VisibleImageFolder, is_ignored, open_folder
from .hints import flat_hint, split_hint
from .image_sets import StreamedImages, read_at_depth
from .labels import number_keys
from .slices import overlap, parse_split, sliced, surely_overlap
from .stl10 import STL10_NAME, TRAIN, Stl10
from .tables import check_cache_files, warn_of_other_rows
from .tars import check_tar_splits, find_tar, is_tar, open_tar, split_names

_logger = logging.getLogger(__name__)

FOLDERS = ('', 'torch/image_folder', 'torch/folder')  # kinds of data sets that are class folders
TWO_SPLITS = tuple(f'torch/{name}' for name in ('cifar10', 'cifar100', 'mnist', 'fashion_mnist', 'kmnist', 'qmnist'))
PREFIXES = ('torch', 'hfds', 'hfids', 'tfds', 'wds')  # of names in timm's notation
SEVERAL_LABELS = ('torch/inaturalist', 'torch/inat')  # the ranks of a species
PACKAGES = ('hfds', 'hfids', 'tfds', 'wds')  # read by packages, whose errors have no common class
EXPECTED = (AssertionError, FileNotFoundError, ImportError, RuntimeError)
LAYOUT = 'expected DIR/train/CLASS/IMAGE and DIR/validation/CLASS/IMAGE'


def create_dataset(
        name: str,
        root: str | None = None,
        split: str = 'validation',
        *,
        input_img_mode: str = 'RGB',
        target_transform: Callable | None = None,
        checked: bool = True,
        lacking: bool = False,
        **kwargs,
):
    """Create the data set `name`: a name in timm's notation, `gradaug/mnist5k` or `gradaug/stl10`.

    As in timm, a folder without a sub-folder for the split is read as a whole (`check_splits` rejects this).

    A split such as `train[:80%]` is a part of the images in which each class has its share. Data sets of `hfds/`,
    `tfds/` and `wds/` read such names themselves.

    Args:
        name: Name of the data set; empty for an image folder or tar files.
        root: Folder or tar file of the data.
        split: Name of the split.
        input_img_mode: PIL mode of the images.
        target_transform: Function applied to each label.
        checked: Whether to check the layout of folders, and to log what is unusual.
        lacking: Whether class folders may be empty, because labels will follow the names of other data.
        **kwargs: More arguments of timm's create_dataset.

    Raises:
        ValueError: No data were found, or class folders have no images; the message names the path and the expected
            layout.
    """
    common: dict[str, Any] = dict(input_img_mode=input_img_mode, target_transform=target_transform, lacking=lacking)
    if not is_sliced_here(name):
        return _open(name, root, split, checked=checked, **common, **kwargs)
    split, part = parse_split(split)
    dataset = _open(name, root, split, checked=checked, **common, **kwargs)
    return dataset if part is None else sliced(dataset, part, warn=checked)


def _open(
        name: str,
        root: str | None,
        split: str,
        *,
        input_img_mode: str,
        target_transform: Callable | None,
        checked: bool,
        lacking: bool,
        **kwargs,
):
    """Create a whole split of a data set."""
    kind, table = _kind(name), local_table(name)
    if not kind.startswith(PACKAGES):
        _check_fields(name, kwargs)
        _check_single_labels(name, target_transform)
    if kwargs.get('class_map'):
        if not is_folder(name) and not kind.startswith(PACKAGES):
            raise ValueError(f'--class-map: --dataset {name} numbers its classes itself; leave the flag out')
        kwargs['class_map'] = read_class_map(kwargs['class_map'], root)
    if name.lower() == STL10_NAME:
        return _create_stl10(root, split, download=kwargs.get('download', False))
    if name.lower().startswith('gradaug/'):
        if name.lower() != DIGITS:
            raise ValueError(f'--dataset {name} is unknown; data sets of this package are {DIGITS} and {STL10_NAME}')
        return Digits(split, input_img_mode=input_img_mode, target_transform=target_transform)
    if kind in TWO_SPLITS and split not in split_names('train') + split_names('validation') + ['test']:
        raise ValueError(f'--dataset {name} has no split {split!r}; it has train and validation')
    if table and checked:
        check_cache_files(table)
    if not kind and is_tar(root):
        dataset = open_tar(
            root, split, input_img_mode=input_img_mode, target_transform=target_transform,
            class_map=kwargs.get('class_map'), load_bytes=kwargs.get('load_bytes', False))
    else:
        if not kind:
            _check_root(name, root)
            check_folder(root, split)
        if kind.startswith(('torch/', 'wds/')) and not root:
            raise ValueError(f'--dataset {name} needs --data-dir, the folder that contains the data set')
        opened = partial(_open_folder, kind) if kind in FOLDERS else partial(timm.data.create_dataset, name)
        try:
            dataset = opened(
                root=root, split=split, input_img_mode=input_img_mode, target_transform=target_transform, **kwargs)
        except Exception as error:
            if not isinstance(error, EXPECTED) and not kind.startswith(PACKAGES):
                raise
            where = f'--dataset {name!r} with --data-dir {root} and split {split!r}'
            raise ValueError(f'{where}: {_in_our_words(error)}') from error
        if kind.startswith(PACKAGES):
            check_fields(name, dataset)
            number_keys(dataset.reader)
    if table and checked:
        warn_of_other_rows(dataset, table, split)
    if checked:
        check_layout(dataset, mapped=bool(kwargs.get('class_map')), lacking=lacking)
    if len(dataset) == 0 and not isinstance(dataset, IterableDataset):
        raise ValueError(f'--dataset {name} has no images in split {split!r}')
    dataset = read_at_depth(dataset, input_img_mode)
    if isinstance(dataset, StreamedImages) and checked and kind.startswith(('hfids', 'wds')):
        dataset.first_image, dataset.first_labels = _peek(name, root, split, input_img_mode, kwargs)
    return dataset


def _peek(name: str, root: str | None, split: str, mode: str, kwargs: dict[str, Any]) -> tuple[Any, list]:
    """Return the first image and the first labels of a stream, which is opened once more for them."""
    given = {**kwargs, 'is_training': False, 'num_samples': kwargs.get('num_samples') or 1}
    stream = timm.data.create_dataset(name, root=root, split=split, input_img_mode=mode, **given)
    number_keys(stream.reader)
    return first_samples(name, read_at_depth(stream, mode))


def _in_our_words(error: Exception) -> str:
    """Return an error of a data set in one line that names our flag instead of an argument in Python."""
    return re.sub(
        r'(You can )?use download ?= ?True to download it', 'add --dataset-download to download it',
        one_line(error, None), flags=re.IGNORECASE).replace('download=True', '--dataset-download')


def is_folder(name: str) -> bool:
    """Return whether a data set is read from class folders or tar files; as in timm, so are names without a prefix."""
    return _kind(name) in FOLDERS and not name.lower().startswith('gradaug/')


def is_sliced_here(name: str) -> bool:
    """Return whether slices such as `train[:80%]` are ours; other readers have their own."""
    return is_folder(name) or _kind(name).startswith('torch/') or name.lower() == STL10_NAME


def check_parts(name: str, root: str | None, splits: tuple[str, str], train: Dataset, validation: Dataset) -> None:
    """Raise ValueError if two splits are overlapping parts of the same images; warn if they are the same split.

    Args:
        name: Name of the data set.
        root: Folder or tar file of the data.
        splits: The names of the splits of training and of validation.
        train: The training images.
        validation: The validation images.
    """
    counted = ''
    if is_sliced_here(name):
        places = [_place(name, root, split) for split in splits]
        shared = overlap(train, validation) if places[0] == places[1] else 0
        counted = f'{shared} of {len(validation)} '
    else:
        shared = surely_overlap(*splits)
    if not shared:
        return
    text = f'{counted}validation images are training images: --train-split {splits[0]} and --val-split {splits[1]} ' \
           'read the same data'
    if splits[0] == splits[1]:
        _logger.warning(f'{text}, so the validation metric says nothing about other images.')
    else:
        raise ValueError(f'{text}; use parts that do not overlap, such as train[:80%] and train[80%:]')


def _place(name: str, root: str | None, split: str) -> str | None:
    """Return what tells the images of one split from those of another."""
    if not is_folder(name):
        return 'train' if split_names(split)[0] in TRAIN else 'test'
    if is_tar(root):
        return find_tar(root, split)
    return split_folder(root or '', split) or root


def _kind(name: str) -> str:
    """Return the name of a data set in lower case; '' for names without a prefix that timm knows, which are folders."""
    prefix, slash, rest = name.lower().partition('/')
    return f'{prefix}/{rest.split("/")[-1]}' if slash and prefix in PREFIXES else ''


def local_table(name: str) -> str | None:
    """Return the folder of a data set of Hugging Face's datasets that is on this machine; None for all others."""
    prefix, _, folder = name.partition('/')
    return folder if prefix.lower() in ('hfds', 'hfids') and os.path.isdir(folder) else None


def _check_fields(name: str, kwargs: Mapping[str, Any]) -> None:
    """Raise ValueError if fields are named for data without fields; as in timm, an input key may list extensions."""
    folder = is_folder(name)
    extensions = folder and not _kind(name) and all(
        each.startswith('.') for each in (kwargs.get('input_key') or '').split(';'))
    given = [flag(key) for key in ('input_key', 'target_key', 'target_format')
             if kwargs.get(key) and not (extensions and key == 'input_key')]
    if given:
        where = 'image folders and tar files have no fields; use --dataset' if folder else f'{name} has no fields'
        raise ValueError(f'{" and ".join(given)}: {where}')


def _check_single_labels(name: str, target_transform: Callable | None) -> None:
    """Raise ValueError if several labels for each image are asked of data that have one."""
    if isinstance(target_transform, timm.data.MultiLabelTarget) and _kind(name) not in SEVERAL_LABELS:
        what = 'images in class folders have' if is_folder(name) else f'images of {name} have'
        raise ValueError(f'--task multilabel: {what} one label; use a data set of hfds/, hfids/, tfds/ or wds/, and '
                         '--target-key')


def _open_folder(
        kind: str,
        *,
        root: str,
        split: str,
        input_img_mode: str,
        target_transform: Callable | None,
        class_map: Mapping[Any, int] | None = None,
        load_bytes: bool = False,
        input_key: str | None = None,
        **_,
):
    """Return the images in class folders; as in timm, `root` may be the folder of the split or contain it."""
    folder = split_folder(root, split) or root
    if kind:
        return VisibleImageFolder(folder, class_map=class_map, target_transform=target_transform, allow_empty=True)
    return open_folder(
        folder, class_map=class_map, extensions=input_key.split(';') if input_key else (), load_bytes=load_bytes,
        input_img_mode=input_img_mode, target_transform=target_transform)


def _create_stl10(root: str | None, split: str, *, download: bool) -> Stl10:
    if not root:
        raise ValueError(f'--dataset {STL10_NAME} needs --data-dir, the folder that contains stl10_binary')
    try:
        return Stl10(root, split, download=download)
    except (OSError, RuntimeError) as error:
        reason = _in_our_words(error)
        raise ValueError(f'--data-dir {root} does not contain --dataset {STL10_NAME}: {reason}') from error


def check_splits(root: str | None, train_split: str, val_split: str, *, name: str = '') -> None:
    """Raise ValueError if an image folder lacks a split; timm would read the whole folder instead.

    Without a validation split, and for parts such as `train[:80%]`, the class folders may be in `root` itself.
    """
    _check_root(name, root)
    if is_tar(root):
        check_tar_splits(root, train_split, val_split)
        return
    root = check_folder(root)
    for split in (train_split, val_split) if val_split and not are_parts(root, train_split, val_split) else ():
        if split_folder(root, split) is None:
            hint = split_hint(root, split_names(split), '--val-split' if split == val_split else '--train-split')
            found = listed(sorted(name for name in os.listdir(root) if not is_ignored(name)))
            raise ValueError(f'--data-dir {root} has no folder for split {split!r}; {LAYOUT}, found {found}'
                             f'{"; " * bool(hint)}{hint}')


def _check_root(name: str, root: str | None) -> None:
    """Raise ValueError if a data set without a prefix has no folder either."""
    if name and not root:
        raise ValueError(f'--dataset {name} has no prefix of a reader (such as torch/ or hfds/), so that images are '
                         'read from folders: add the prefix, or --data-dir')


def are_parts(root: str, *splits: str) -> bool:
    """Return whether splits are parts of class folders in `root` itself, which then needs no folders of splits."""
    parsed = [parse_split(split) for split in splits]
    whole = not any(split_folder(root, name) for name in ('train', 'validation', 'test'))
    return whole and all(part is not None for _, part in parsed) and len({name for name, _ in parsed}) == 1


def check_folder(root: str | None, split: str = '') -> str:
    """Return `root`; raise ValueError unless it contains class folders, in the folder for `split` if there is one."""
    if not root:
        raise ValueError(f'--data-dir is missing: name the folder with the images ({LAYOUT}), or use --dataset')
    if not os.path.isdir(root):
        problem = 'is not a folder' if os.path.exists(root) else 'does not exist'
        raise ValueError(f'--data-dir {root} {problem}; {LAYOUT}')
    folder = split_folder(root, split) or root
    if not any(entry.is_dir() and not is_ignored(entry.name) for entry in os.scandir(folder)):
        raise ValueError(f'{folder} has no class folders; {LAYOUT}; {flat_hint(folder)}')
    return root


def split_folder(root: str, split: str) -> str | None:
    """Return the folder of `split` in `root`, by this name or one that timm accepts for it; None if there is none."""
    paths = (os.path.join(root, name) for name in split_names(split))
    return next((path for path in paths if os.path.isdir(path)), None)
