"""Image folders packed in tar files."""
import os
import pickle
import tarfile
from collections.abc import Mapping
from typing import TypeGuard

import torch.distributed as dist
from timm.data import ImageDataset

from ..cli import one_line
from ..upstream import TAR_NOTES, ReaderImageInTar, keep_samples, sort_tar_samples
from .folders import is_ignored, is_visible, more_extensions
from .image_sets import Images

SYNONYMS = (('train', 'training'), ('val', 'valid', 'validation', 'eval', 'evaluation'))
LAYOUT = 'DIR/train.tar and DIR/validation.tar with CLASS/IMAGE, or DIR/train/CLASS.tar and DIR/validation/CLASS.tar'
UNREADABLE = (  # errors that timm's readers and damaged pickles raise
    AssertionError, AttributeError, EOFError, ImportError, IndexError, KeyError, OSError, TypeError, ValueError,
    pickle.UnpicklingError)


def split_names(split: str) -> list[str]:
    """Return the name of a split, without a part such as `[100]`, and the names that timm accepts for the split."""
    name = split.split('[')[0]
    return [name, *next((group for group in SYNONYMS if name in group), ())]


def is_tar(root: str | None) -> TypeGuard[str]:
    """Return whether images are read from tar files.

    This is the case if `root` is a tar file, or if folders of splits contain tar files, or if `root` has no such
    folders and contains tar files itself. Tar files next to class folders are ignored: they are downloaded archives.
    """
    if not root:
        return False
    if not os.path.isdir(root):
        return root.endswith('.tar')
    splits = sum(SYNONYMS, ())
    folders = [entry.path for entry in os.scandir(root) if entry.is_dir() and entry.name in splits]
    if not folders:
        return _holds_tars(root) or any(os.path.isfile(os.path.join(root, f'{name}.tar')) for name in splits)
    return any(map(_holds_tars, folders)) and not any(map(_holds_folders, folders))


def find_tar(root: str, split: str) -> str | None:
    """Return the tar file of a split, or the folder with a tar file for each class; `root` if it has no splits.

    Raises:
        ValueError: `root` does not exist.
    """
    if not os.path.exists(root):
        raise ValueError(f'--data-dir {root} does not exist')
    if os.path.isfile(root):
        return root
    for name in split_names(split):
        path = os.path.join(root, name)
        if os.path.isfile(f'{path}.tar'):
            return f'{path}.tar'
        if os.path.isdir(path) and _holds_tars(path):
            return path
    known = {f'{name}.tar' for group in SYNONYMS for name in group}
    return root if _holds_tars(root) and not known & {*os.listdir(root)} else None


def check_tar_splits(root: str, train_split: str, val_split: str) -> None:
    """Raise ValueError if a split is missing, or if training and validation would read the same images."""
    found = [find_tar(root, split) for split in (train_split, val_split) if split]
    if None in found:
        missing = (train_split, val_split)[found.index(None)]
        raise ValueError(f'--data-dir {root} has no tar files for split {missing!r}; expected {LAYOUT}')
    if len({*found}) < len(found) and not ('[' in train_split and '[' in val_split):
        raise ValueError(f'--data-dir {root} would be trained and validated on the same tar files: expected {LAYOUT}; '
                         'use --val-split "" to train without validation')


def open_tar(root: str, split: str, *, class_map: Mapping[str, int] | None = None, **kwargs) -> ImageDataset:
    """Return the images of a split as a data set.

    Args:
        root: A tar file, or the folder that contains tar files.
        split: Name of the split.
        class_map: The label of each class.
        **kwargs: Arguments of timm's ImageDataset.

    Raises:
        ValueError: The split has no tar files, they contain no images, or images are not in class folders.
    """
    path = find_tar(root, split)
    if path is None:
        raise ValueError(f'--data-dir {root} has no tar files for split {split!r}; expected {LAYOUT}')
    note = _note_path(path)
    try:
        with more_extensions():
            reader = ReaderImageInTar(path, class_map=class_map or '', cache_tarinfo=None if _may_note(note) else False)
    except (tarfile.TarError, *UNREADABLE) as error:
        hint = f'; or {note} is out of date or damaged: delete it' if os.path.exists(note) else ''
        raise ValueError(f'--data-dir {path} has no images that can be read: {one_line(error, None)}{hint}') from error
    seen = [is_visible('', image.path) for image, _, _ in reader.samples]
    if not any(seen):
        raise ValueError(f'--data-dir {path} has only hidden images, such as ._NAME, which are no images of classes')
    if not all(seen):
        keep_samples(reader, seen, renumber=not class_map)
    if not class_map and {'', '.'} & {*reader.class_name_to_idx}:
        raise ValueError(f'--data-dir {path} has images outside of class folders: pack a class with `tar cf CLASS.tar '
                         'CLASS`, a split with `tar cf train.tar -C train .`')
    sort_tar_samples(reader)
    return Images(path, reader=reader, **kwargs)


def _note_path(path: str) -> str:
    """Return the path of the index that timm writes for large tar files."""
    folder, name = os.path.split(os.path.abspath(path))
    folder = folder if os.path.isfile(path) else os.path.join(folder, name)
    return os.path.join(folder, f'_{name.removesuffix(".tar")}{TAR_NOTES}')


def _may_note(note: str) -> bool:
    """Return whether timm may use the index file; several processes must not write it at the same time."""
    several = dist.is_initialized() and dist.get_world_size() > 1
    return os.path.exists(note) or (not several and os.access(os.path.dirname(note), os.W_OK))


def _holds_tars(folder: str) -> bool:
    return not _holds_folders(folder) and any(
        entry.endswith('.tar') and not is_ignored(entry) for entry in os.listdir(folder))


def _holds_folders(folder: str) -> bool:
    return any(entry.is_dir() and not is_ignored(entry.name) for entry in os.scandir(folder))
