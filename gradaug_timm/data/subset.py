"""Subsets of a training set: the same number of images of each class, or the same share of each class."""
import math
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Dataset, Subset

from ..seeding import seeded
from ..upstream import reader_of


class TransformedSubset(Subset):
    """Subset that passes its `transform` on to the whole data set, because timm's loaders set it."""

    @property
    def transform(self):
        return self.dataset.transform

    @transform.setter
    def transform(self, transform):
        self.dataset.transform = transform

    def filename(self, index: int, **kwargs) -> str:
        """Return the name of an image, as timm's data sets do."""
        return self.dataset.filename(self.indices[index], **kwargs)

    def filenames(self, **kwargs) -> list[str]:
        """Return the names of all images, as timm's data sets do."""
        every = self.dataset.filenames(**kwargs)
        return [every[index] for index in self.indices]


def class_balanced(dataset: Dataset, per_class: int, *, seed: int) -> TransformedSubset:
    """Return `per_class` random images of each class; the same seed gives the same images on all machines.

    Args:
        dataset: The data set.
        per_class: Number of images of each class.
        seed: Seed of the draws.

    Raises:
        ValueError: A class has fewer images, or the labels are not known without reading all images.
    """
    labels = labels_of(dataset, f'--labels-per-class {per_class}')
    return TransformedSubset(dataset, balanced_indices(labels, per_class, seed=seed))


def stratified(dataset: Dataset, fraction: float, *, seed: int) -> TransformedSubset:
    """Return a random share of each class, at least one image; with the same seed, larger shares contain smaller ones.

    Args:
        dataset: The data set.
        fraction: Share of the images of each class.
        seed: Seed of the draws.

    Raises:
        ValueError: The labels are not known without reading all images.
    """
    labels = labels_of(dataset, f'--train-fraction {fraction:g}')
    return TransformedSubset(dataset, stratified_indices(labels, fraction, seed=seed))


def balanced_indices(labels: Sequence[int], per_class: int, *, seed: int) -> list[int]:
    """Return the indices, in increasing order, of `per_class` random items of each label.

    Raises:
        ValueError: A label has fewer items.
    """
    chosen = []
    for label, items in _shuffled_by_label(labels, seed):
        if len(items) < per_class:
            raise ValueError(f'--labels-per-class {per_class} is more than the {len(items)} images of class {label}')
        chosen += items[:per_class].tolist()
    return sorted(chosen)


def stratified_indices(labels: Sequence[int], fraction: float, *, seed: int) -> list[int]:
    """Return the indices, in increasing order, of a share of the items of each label, rounded, but at least one."""
    return sorted(
        index for _, items in _shuffled_by_label(labels, seed)
        for index in items[:max(1, math.floor(fraction * len(items) + 0.5))].tolist())


def _shuffled_by_label(labels: Sequence[int], seed: int) -> Iterator[tuple[int, torch.Tensor]]:
    # Seeded by `seed` itself, not by a key: subsets must stay the same for a seed.
    order = torch.randperm(len(labels), generator=seeded(seed))
    shuffled = torch.as_tensor(labels)[order]
    for label in shuffled.unique().tolist():
        yield label, order[shuffled == label]


def labels_of(dataset: Dataset, flag: str) -> Sequence[int]:
    """Return the label of each image.

    Args:
        dataset: The data set.
        flag: What needs the labels, for errors.

    Raises:
        ValueError: The labels are not known without reading all images.
    """
    if isinstance(dataset, Subset):
        every = labels_of(dataset.dataset, flag)
        return [every[index] for index in dataset.indices]
    source = reader_of(dataset)
    labels = getattr(source, 'targets', getattr(source, 'labels', None))
    if labels is None and hasattr(source, 'samples'):
        labels = [label for _, label in source.samples]
    if labels is None:
        raise ValueError(f'{flag} needs a data set that lists its labels: image folders, tar files, torch/ or gradaug/')
    return labels[:, 0] if getattr(labels, 'ndim', 1) > 1 else labels  # QMNIST also lists where a digit is from
