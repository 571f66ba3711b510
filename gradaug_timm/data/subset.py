"""A part of a training set with as many images of each class."""
from collections.abc import Sequence

import torch
from torch.utils.data import Dataset, Subset


class TransformedSubset(Subset):
    """A part of a data set whose transform is set through it, as timm's loaders do."""

    @property
    def transform(self):
        return self.dataset.transform

    @transform.setter
    def transform(self, transform):
        self.dataset.transform = transform


def class_balanced(dataset: Dataset, per_class: int, *, seed: int) -> TransformedSubset:
    """`per_class` random images of each class, the same for a seed wherever they are drawn.

    Raises:
        ValueError: A class has fewer, or the labels aren't known without reading all images.
    """
    labels = _labels(dataset)
    if labels is None:
        raise ValueError(
            f'--labels-per-class {per_class} needs a data set that lists its labels (image folders, torch/, gradaug/), '
            f'not {type(dataset).__name__}')
    return TransformedSubset(dataset, balanced_indices(labels, per_class, seed=seed))


def balanced_indices(labels: Sequence[int], per_class: int, *, seed: int) -> list[int]:
    """Indices, in increasing order, of `per_class` random items of each label.

    Raises:
        ValueError: A label has fewer items.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = torch.as_tensor(labels)[order]
    chosen = []
    for label in shuffled.unique().tolist():
        items = order[shuffled == label]
        if len(items) < per_class:
            raise ValueError(f'--labels-per-class {per_class} is more than the {len(items)} images of class {label}')
        chosen += items[:per_class].tolist()
    return sorted(chosen)


def _labels(dataset: Dataset) -> Sequence[int] | None:
    source = getattr(dataset, 'reader', dataset)
    labels = getattr(source, 'targets', getattr(source, 'labels', None))
    if labels is None and hasattr(source, 'samples'):
        labels = [label for _, label in source.samples]
    return labels
