"""Checks that find faults of data sets before the first epoch."""
import logging
import sys

from torch.utils.data import Dataset

from ..upstream import shard_count
from .by_name import use_labels_of
from .class_names import class_names, innermost
from .findings import Level
from .labels import check_values
from .layout import layout_findings

_logger = logging.getLogger(__name__)


def match_validation(train: Dataset, validation: Dataset, *, dense: bool = False) -> None:
    """Give validation images the labels of training, by the names of the classes; training may have more of them.

    Raises:
        ValueError: Validation has classes that training does not have.
    """
    names = class_names(train)
    if names is not None:
        use_labels_of(names, validation, what='validation', known_to='training', dense=dense)


def check_labels(dataset: Dataset, num_classes: int) -> None:
    """Raise ValueError if an image has no label, or one that is not among the network's classes."""
    names = class_names(innermost(dataset))
    if names is not None and len(names) > num_classes:
        raise ValueError(f'--num-classes {num_classes} is too small: the data set has labels 0 to {len(names) - 1}; '
                         f'use at least {len(names)}')
    check_values(dataset, num_classes if names is None else sys.maxsize)


def warn_of_unused_classes(dataset: Dataset, num_classes: int) -> None:
    """Log a warning if the network has more classes than the data set has class names."""
    names = class_names(dataset)
    if names and num_classes > len(names):
        _logger.warning(f'--num-classes {num_classes} is more than the {len(names)} classes of the data set.')


def check_layout(dataset: Dataset, *, mapped: bool = False, lacking: bool = False) -> None:
    """Log what is unusual about the folders of a data set, such as files that are not read.

    Args:
        dataset: The data set.
        mapped: Whether a class map says which folders are classes.
        lacking: Whether class folders may be empty, because labels will follow the names of other data.

    Raises:
        ValueError: A class folder has no images, or all folders are one class.
    """
    for finding in layout_findings(dataset, mapped=mapped, lacking=lacking):
        if finding.level is Level.ERROR:
            raise ValueError(finding.text)
        _logger.warning(finding.text)


def check_filled(dataset: Dataset) -> None:
    """Raise ValueError if a class folder has no images; labels of the others are not what their order says."""
    for finding in layout_findings(innermost(dataset)):
        if finding.kind == 'empty_class_folders':
            raise ValueError(finding.text)


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
