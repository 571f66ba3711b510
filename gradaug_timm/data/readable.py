"""Unreadable images: in training other images replace them, in evaluation they are left out; both are counted."""
import logging
import multiprocessing

import torch
from torch.utils.data import Dataset

from ..cli import one_line
from .guarded import ReadingError, guard
from .image_names import image_name

_logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 50
NAMED = 3  # unreadable images that the log names; the others are only counted
LEFT_OUT = -100  # label of an image that is left out


class UnreadableImages:
    """A count of unreadable images over all workers, the first of which are named in the log.

    Args:
        streamed: Whether the images are missing in the batches.
    """

    def __init__(self, *, streamed: bool = False):
        self.streamed, self.quiet = streamed, False
        self._count = multiprocessing.Value('q', 0)
        self._named = multiprocessing.Value('q', 0)

    def add(self, text: str) -> None:
        """Count an image; `text` says which it is, why it can't be read and what happens to it."""
        if self.quiet:
            return
        with self._count.get_lock():
            self._count.value += 1
        with self._named.get_lock():
            self._named.value += 1
            number = self._named.value
        if number <= NAMED:
            _logger.warning(text)
        elif number == NAMED + 1:
            _logger.warning('More images cannot be read; they are only counted.')

    def take(self) -> int:
        """Return how many images were counted since the last call, in all workers."""
        with self._count.get_lock():
            count, self._count.value = self._count.value, 0
        return count

    @property
    def any(self) -> bool:
        """Whether an image was counted at any time."""
        return self._named.value > 0


class ReadableDataset(Dataset):
    """Data set in which the next readable item replaces an unreadable item.

    Errors of transforms are not taken for unreadable images: they end the reading.

    Args:
        dataset: The data set; an index is a number, or a tuple that begins with one. Transforms are set already.
        leave_out: Mark the item that replaces another with the label `LEFT_OUT`, so that it is left out of results.
    """

    def __init__(self, dataset: Dataset, *, leave_out: bool = False):
        self.dataset, self.leave_out = dataset, leave_out
        self.unreadable = UnreadableImages()
        self._fate = 'it is left out' if leave_out else 'another image replaces it'
        part = dataset
        while isinstance(part, Dataset):
            guard(part)
            self.unreadable = getattr(part, 'unreadable', self.unreadable)  # so that images are named once
            part = getattr(part, 'dataset', None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index):
        asked = index
        for attempt in range(MOST_IN_A_ROW):
            try:
                item = self.dataset[index]
            except ReadingError as error:
                raise type(error)(f'{self._name(index)}: {error}') from error
            except Exception as error:  # image libraries raise anything on a broken file
                reason = one_line(error, None, kind=True)
                if attempt == 0:
                    self.unreadable.add(f'{self._name(index)} can\'t be read ({reason}); {self._fate}.')
                index = _next(index, len(self))
            else:
                return _left_out(item) if self.leave_out and index != asked else item
        last = self._name(_next(index, len(self), -1))
        raise ReadingError(f'{MOST_IN_A_ROW} images in a row can\'t be read; the first is {self._name(asked)}, the '
                           f'last {last} ({reason})')

    def take_skipped(self) -> int:
        """Return how many items could not be read since the last call, in all workers."""
        return self.unreadable.take()

    def _name(self, index) -> str:
        return image_name(self.dataset, index[0] if isinstance(index, tuple) else index)


class ReadRows:
    """The rows of batches that count: not the padding of a distributed sampler, and not images that are left out.

    Args:
        loader: The loader of evaluation.
        limit: Number of rows without padding; None without padding.
    """

    def __init__(self, loader, limit: int | None = None):
        dataset = getattr(getattr(loader, 'loader', loader), 'dataset', None)
        self._unreadable: UnreadableImages | None = getattr(dataset, 'unreadable', None)
        self._limit, self._left_out, self._rows = limit, 0, 0
        if self._unreadable is not None:
            self._unreadable.take()

    def mask(self, target: torch.Tensor) -> torch.Tensor | None:
        """Return which rows of a batch count, as booleans; None if all do."""
        start, self._rows = self._rows, self._rows + len(target)
        within = len(target) if self._limit is None else max(0, min(len(target), self._limit - start))
        if within == len(target) and (self._unreadable is None or not self._unreadable.any):
            return None
        kept = (target.flatten(1)[:, 0] if target.ndim > 1 else target) != LEFT_OUT
        self._left_out += int((~kept[:within]).sum())
        kept[within:] = False
        return kept

    @property
    def kept(self) -> int:
        """The number of rows that counted so far, with the padding."""
        return self._rows - self._left_out

    def left_out(self) -> int:
        """Return how many images were left out so far."""
        missing = self._unreadable
        return self._left_out + (missing.take() if missing is not None and missing.streamed else 0)


def report_left_out(count: int, title: str) -> None:
    """Log how many images are left out of results."""
    if count:
        _logger.warning(f'{title}: {count} image{"s" * (count > 1)} could not be read and '
                        f'{"are" if count > 1 else "is"} left out of the results.')


def _left_out(item):
    image, target, *more = item
    label = torch.full_like(target, LEFT_OUT) if isinstance(target, torch.Tensor) else LEFT_OUT
    return (image, label, *more)


def _next(index, items: int, step: int = 1):
    if isinstance(index, tuple):
        return (_next(index[0], items, step), *index[1:])
    return (index + step) % items
