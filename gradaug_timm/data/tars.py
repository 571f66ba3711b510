"""Image folders that are packed in tar files."""
import os
import pickle
import tarfile

import torch.distributed as dist
from timm.data import ImageDataset

from ..cli import one_line
from ..upstream import TAR_NOTES, ReaderImageInTar, load_class_map, sort_tar_samples

SYNONYMS = (('train', 'training'), ('val', 'valid', 'validation', 'eval', 'evaluation'))
LAYOUT = 'DIR/train.tar and DIR/validation.tar with CLASS/IMAGE, or DIR/train/CLASS.tar and DIR/validation/CLASS.tar'
UNREADABLE = (  # what timm's readers and damaged pickles raise
    AssertionError, AttributeError, EOFError, ImportError, IndexError, KeyError, OSError, TypeError, ValueError,
    pickle.UnpicklingError)


def split_names(split: str) -> list[str]:
    """The name of a split, without a part such as `[100]`, and the names timm takes for it."""
    name = split.split('[')[0]
    return [name, *next((group for group in SYNONYMS if name in group), ())]


def is_tar(root: str | None) -> bool:
    """Whether images are read from tar files: `root` is one, or its splits' folders hold some, or it without such.

    Other archives beside sub-folders are what these came in.
    """
    if not root or not os.path.isdir(root):
        return bool(root) and root.endswith('.tar')
    splits = sum(SYNONYMS, ())
    folders = [entry.path for entry in os.scandir(root) if entry.is_dir() and entry.name in splits]
    if not folders:
        return _holds_tars(root) or any(os.path.isfile(os.path.join(root, f'{name}.tar')) for name in splits)
    return any(map(_holds_tars, folders)) and not any(map(_holds_folders, folders))


def find_tar(root: str, split: str) -> str | None:
    """The tar file of a split, or its folder of one for each class; `root` itself where it isn't divided in splits.

    Raises:
        ValueError: There is no `root`.
    """
    if not os.path.exists(root):
        raise ValueError(f'--data-dir {root} is not there')
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
    """Raises ValueError where a split is missing, or training and validation would read the same images."""
    found = [find_tar(root, split) for split in (train_split, val_split) if split]
    if None in found:
        missing = (train_split, val_split)[found.index(None)]
        raise ValueError(f'--data-dir {root} has no tar files for split {missing!r}; expected {LAYOUT}')
    if len({*found}) < len(found):
        raise ValueError(f'--data-dir {root} would be trained and validated on the same tar files: expected {LAYOUT}; '
                         'or train without validation by --val-split ""')


def open_tar(root: str, split: str, *, class_map: str | None = None, **kwargs) -> ImageDataset:
    """The images of a split.

    Raises:
        ValueError: It has no tar files, nothing in them is an image, or images aren't in folders of their classes.
    """
    path = find_tar(root, split)
    if path is None:
        raise ValueError(f'--data-dir {root} has no tar files for split {split!r}; expected {LAYOUT}')
    classes, note = _read_class_map(class_map, root), _note_path(path)
    try:
        reader = ReaderImageInTar(path, class_map=classes, cache_tarinfo=None if _may_note(note) else False)
    except (tarfile.TarError, *UNREADABLE) as error:
        hint = f'; or {note} is out of date or damaged: delete it' if os.path.exists(note) else ''
        raise ValueError(f'--data-dir {path} has no images that can be read: {one_line(error, None)}{hint}') from error
    if classes is None and {'', '.'} & {*reader.class_name_to_idx}:
        raise ValueError(f'--data-dir {path} has images in no folder of a class: pack a class by `tar cf CLASS.tar '
                         'CLASS`, a split by `tar cf train.tar -C train .`')
    sort_tar_samples(reader)
    return ImageDataset(path, reader=reader, **kwargs)


def _read_class_map(class_map: str | None, root: str) -> dict[str, int] | None:
    """Class name to label, from a file that is looked up as given, then in `root`."""
    if not class_map:
        return None
    try:
        return load_class_map(class_map, root)
    except UNREADABLE as error:
        raise ValueError(f'--class-map {class_map} can\'t be read: {one_line(error, None)}') from error


def _note_path(path: str) -> str:
    """Where timm notes what is in large tar files."""
    folder, name = os.path.split(os.path.abspath(path))
    folder = folder if os.path.isfile(path) else os.path.join(folder, name)
    return os.path.join(folder, f'_{name.removesuffix(".tar")}{TAR_NOTES}')


def _may_note(note: str) -> bool:
    """Whether timm may read this file, or write it; several processes would write it at once."""
    several = dist.is_initialized() and dist.get_world_size() > 1
    return os.path.exists(note) or (not several and os.access(os.path.dirname(note), os.W_OK))


def _holds_tars(folder: str) -> bool:
    return not _holds_folders(folder) and any(entry.endswith('.tar') for entry in os.listdir(folder))


def _holds_folders(folder: str) -> bool:
    return any(entry.is_dir() and not entry.name.startswith('.') for entry in os.scandir(folder))
