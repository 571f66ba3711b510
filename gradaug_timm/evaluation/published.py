"""Corrupted images as they are published: CIFAR-10-C's arrays, and ImageNet-C's folders."""
import os
from collections.abc import Callable

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from .corruptions import SEVERITIES

LABELS = 'labels.npy'
LAYOUTS = 'expected CORRUPTION.npy and labels.npy as CIFAR-10-C has them, or CORRUPTION/SEVERITY/CLASS as ImageNet-C'


def find_corruption(root: str, name: str, severity: int) -> str:
    """Return the array of a corruption, or the folder of a severity of it; in `root` or in a folder of it.

    Raises:
        ValueError: There is neither, or several folders have one.
    """
    found = _in_place(root, name, severity)
    if found is not None:
        return found
    below = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
    paths = [path for path in (_in_place(place, name, severity) for place in below) if path is not None]
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise ValueError(f'--corruptions-dir {root} has several folders with {name}, such as {paths[0]} and '
                         f'{paths[1]}; name one of the folders')
    raise ValueError(f'--corruptions-dir {root}: {os.path.join(root, name, str(severity))} does not exist; {LAYOUTS}')


def _in_place(place: str, name: str, severity: int) -> str | None:
    """Return the array or the folder of a corruption that is in a folder itself; None without."""
    array, folder = os.path.join(place, f'{name}.npy'), os.path.join(place, name, str(severity))
    return array if os.path.isfile(array) else folder if os.path.isdir(folder) else None


class CorruptedArray(Dataset):
    """The images of a severity in an array of all severities, which is not read as a whole.

    Args:
        path: The array, uint8 [images, height, width, 3], the severities 1 to 5 one after the other; the labels are in
            a file next to it, for all images or for those of a severity.
        severity: From 1 to 5.
        mode: PIL mode of the images.

    Raises:
        ValueError: It is another array, or the labels do not fit.
    """

    def __init__(self, path: str, severity: int, *, mode: str = 'RGB'):
        images, labels = _read(path), _read(os.path.join(os.path.dirname(path), LABELS))
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) % len(SEVERITIES):
            raise ValueError(f'{path} must be uint8 [images, height, width, 3] with five severities in a row, not '
                             f'{images.dtype} {list(images.shape)}')
        count = len(images) // len(SEVERITIES)
        part = slice((severity - 1) * count, severity * count)
        if labels.ndim != 1 or labels.dtype.kind not in 'iu' or len(labels) not in (count, len(images)):
            raise ValueError(f'{os.path.join(os.path.dirname(path), LABELS)} must have {len(images)} whole numbers, or '
                             f'{count}, not {labels.dtype} {list(labels.shape)}')
        self.images = images[part]
        self.targets = (labels if len(labels) == count else labels[part]).tolist()
        self.mode = mode
        self.transform: Callable | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        image = Image.fromarray(np.array(self.images[index])).convert(self.mode)
        return (image if self.transform is None else self.transform(image)), self.targets[index]


def _read(path: str) -> np.ndarray:
    try:
        return np.load(path, mmap_mode='r', allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f'{path} can\'t be read as an array of NumPy: {error}') from error
