"""Checks that find faults of data sets before the first epoch."""
import logging

from torch.utils.data import Dataset

from ..upstream import shard_count
from .class_names import class_labels
from .findings import Level
from .layout import layout_findings

_logger = logging.getLogger(__name__)


def check_classes(train: Dataset, validation: Dataset) -> None:
    """Raise ValueError if training and validation have different classes or labels."""
    ours, theirs = class_labels(train), class_labels(validation)
    if ours is None or theirs is None or ours == theirs:
        return
    missing, extra = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    details = [f'{what} {", ".join(names[:5])}' for what, names in (
        ('only in training:', missing), ('only in validation:', extra)) if names]
    raise ValueError(f'the classes of training and validation differ ({"; ".join(details) or "other labels"})')


def check_labels(dataset: Dataset, num_classes: int) -> None:
    """Raise ValueError if a label is not among the network's classes."""
    highest = _highest_label(dataset)
    if highest is not None and highest >= num_classes:
        raise ValueError(f'--num-classes {num_classes} is too small: the data set has labels 0 to {highest}; '
                         f'use at least {highest + 1}')


def warn_of_unused_classes(dataset: Dataset, num_classes: int) -> None:
    """Log a warning if the network has more classes than the data set has class names."""
    names = class_labels(dataset)
    if names and num_classes > len(names):
        _logger.warning(f'--num-classes {num_classes} is more than the {len(names)} classes of the data set.')


def check_layout(dataset: Dataset, *, mapped: bool = False) -> None:
    """Log what is unusual about the folders of a data set, such as files that are not read.

    Args:
        dataset: The data set.
        mapped: Whether a class map says which folders are classes.

    Raises:
        ValueError: A class folder has no images, or all folders are one class.
    """
    for finding in layout_findings(dataset, mapped=mapped):
        if finding.level is Level.ERROR:
            raise ValueError(finding.text)
        _logger.warning(finding.text)


def check_sizes(dataset: Dataset, batches: int, *, batch_size: int) -> None:
    """Raise ValueError if the loader would return no batch."""
    if batches == 0:
        raise ValueError(f'--batch-size {batch_size} is larger than the number of images of each process: the data set '
                         f'has {len(dataset)} images; use a smaller --batch-size')


def check_shards(dataset: Dataset, split: str, *, processes: int, workers: int) -> None:
    """Raise ValueError if a data worker would get no shard of a web data set, and so the process no batches."""
    shards, needed = shard_count(dataset), processes * max(1, workers)
    if shards is not None and shards < needed:
        raise ValueError(f'--workers: the {split} split needs at least as many shards as data workers, {needed} '
                         f'({max(1, workers)} in each of {processes} processes), and has {shards}')


def _highest_label(dataset: Dataset) -> int | None:
    names = class_labels(dataset)
    if names and all(isinstance(label, int) for label in names.values()):
        return max(names.values())
    targets = getattr(dataset, 'targets', None)
    return None if targets is None else int(max(targets))
