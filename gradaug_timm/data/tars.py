"""Image folders that are packed in tar files."""
import os
import tarfile

from timm.data import ImageDataset
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

SYNONYMS = (('train', 'training'), ('val', 'valid', 'validation', 'eval', 'evaluation'))
LAYOUT = 'DIR/train.tar and DIR/validation.tar with CLASS/IMAGE, or DIR/train/CLASS.tar and DIR/validation/CLASS.tar'


def split_names(split: str) -> list[str]:
    """The name of a split, without a part such as `[100]`, and the names timm takes for it."""
    name = split.split('[')[0]
    return [name, *next((group for group in SYNONYMS if name in group), ())]


def is_tar(root: str | None) -> bool:
    """Whether images are read from tar files: `root` is one, or its splits' folders hold some, or it without such."""
    if not root or not os.path.isdir(root):
        return bool(root) and root.endswith('.tar')
    folders = [entry.path for entry in os.scandir(root) if entry.is_dir() and entry.name in sum(SYNONYMS, ())]
    return any(map(_holds_tars, folders or [root]))


def find_tar(root: str, split: str) -> str | None:
    """The tar file of a split, or its folder of one for each class; `root` itself where it isn't divided in splits."""
    if root.endswith('.tar'):
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
        ValueError: It has no tar files, or nothing in them is an image.
    """
    path = find_tar(root, split)
    if path is None:
        raise ValueError(f'--data-dir {root} has no tar files for split {split!r}; expected {LAYOUT}')
    try:
        reader = ReaderImageInTar(path, class_map=class_map or '')
    except (OSError, ValueError, tarfile.TarError) as error:
        raise ValueError(f'--data-dir {path} has no images that can be read: {" ".join(str(error).split())}') from error
    _sort(reader)
    return ImageDataset(path, reader=reader, **kwargs)


def _sort(reader: ReaderImageInTar) -> None:
    """Orders images by tar file and name, in place; where names repeat timm's order is that of the file system."""
    def place(index: int) -> tuple[str, str, str]:
        image, file, inner = reader.samples[index]
        return file or '', inner.path if inner else '', image.path

    order = sorted(range(len(reader.samples)), key=place)
    reader.samples, reader.targets = reader.samples[order], reader.targets[order]


def _holds_tars(folder: str) -> bool:
    return any(entry.endswith('.tar') for entry in os.listdir(folder))
