"""Slices of splits, such as `train[:80%]`, for data sets whose reader has none: folders, tar files and torchvision."""
import logging
import re
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from .class_names import class_names, listed
from .subset import TransformedSubset, labels_of

_logger = logging.getLogger(__name__)

BOUND = r'(-?\d+(?:\.\d+)?%|-?\d+)?'
MANY = 10 ** 9  # images, of which a number is a small share
SLICE = re.compile(rf'([^\[\]+]*)\[{BOUND}:{BOUND}\]')


@dataclass(frozen=True)
class Slice:
    """A part of a split.

    Args:
        text: The part as it was written.
        start: Its first image: a number of images, or a percentage such as '80%'; from the end if negative.
        stop: The image after its last one.
    """

    text: str
    start: str
    stop: str

    def bounds(self, images: int) -> tuple[int, int]:
        """Return the numbers of the first image and of the one after the last."""
        start, stop = (_place(bound, images, default) for bound, default in ((self.start, 0), (self.stop, images)))
        return start, max(start, stop)


def parse_split(split: str) -> tuple[str, Slice | None]:
    """Return the name of a split, and its slice if there is one.

    Raises:
        ValueError: The slice is not written as NAME[FROM:TO].
    """
    if not {'[', ']', '+'} & {*split}:
        return split, None
    match = SLICE.fullmatch(split.strip())
    if match is None:
        raise ValueError(f'split {split!r}: a part of a split is written NAME[FROM:TO] with numbers of images or '
                         'percentages, such as train[:80%] and train[80%:]; --labels-per-class N takes N images of '
                         'each class')
    name, start, stop = match.groups(default='')
    return name, Slice(split, start, stop)


def sliced(dataset: Dataset, part: Slice, *, warn: bool = True) -> TransformedSubset:
    """Return a part of a data set in which each class has its share; parts that do not overlap share no image.

    Args:
        dataset: The data set.
        part: The part.
        warn: Whether to warn of classes without images.

    Raises:
        ValueError: The part has no images, or the labels are not known without reading all images.
    """
    labels = np.asarray(labels_of(dataset, f'split {part.text!r}'))
    start, stop = part.bounds(len(labels))
    chosen = np.sort(spread(labels)[start:stop])
    if not len(chosen):
        raise ValueError(f'split {part.text!r} has none of the {len(labels)} images')
    lost = sorted({*labels.tolist()} - {*labels[chosen].tolist()})
    if lost:
        names = class_names(dataset)
        _logger.log(logging.WARNING if warn else logging.DEBUG,
                    f'split {part.text!r} has {len(chosen)} of {len(labels)} images, and none of '
                    f'{listed(names[label] if names else str(label) for label in lost)}.')
    return TransformedSubset(dataset, chosen.tolist())


def spread(labels: np.ndarray) -> np.ndarray:
    """Return the indices of all images in an order in which each first part has each class in proportion.

    Images of a class stay in their order.
    """
    by_class = np.argsort(labels, kind='stable')
    _, first, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(first, counts)
    shares = (rank + .5) / np.repeat(counts, counts)
    return by_class[np.lexsort((labels[by_class], shares))]


def overlap(first: Dataset, second: Dataset) -> int:
    """Return how many images two parts of the same data set share."""
    ours, theirs = ({*(each.indices if isinstance(each, TransformedSubset) else range(len(each)))}
                    for each in (first, second))
    return len(ours & theirs)


def surely_overlap(first: str, second: str) -> bool:
    """Return whether two splits, written as for any reader, have images in common, however many images there are."""
    try:
        names, parts = zip(*map(parse_split, (first, second)))
    except ValueError:  # of another notation
        return False
    bounds = [part.bounds(MANY) if part else (0, MANY) for part in parts]
    return names[0] == names[1] and max(start for start, _ in bounds) < min(stop for _, stop in bounds)


def _place(bound: str, images: int, default: int) -> int:
    if not bound:
        return default
    from_end = bound[0] == '-'
    if bound[-1] == '%':
        place = int(images * (float(bound[:-1]) + 100 * from_end) / 100 + .5)  # -20% is the same place as 80%
    else:
        place = int(bound) + images * from_end
    return min(max(place, 0), images)
