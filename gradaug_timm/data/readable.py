"""Unreadable images: other images replace them, and they are counted."""
import logging
import multiprocessing

from timm.data import ImageDataset
from torch.utils.data import Dataset

from ..upstream import read_once
from .class_names import innermost

_logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 50
NAMED = 3  # unreadable images that each process names in the log; others are only counted


class ReadableDataset(Dataset):
    """Data set in which the next readable item replaces an unreadable item.

    Args:
        dataset: The data set; an index is a number, or a tuple that begins with one.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._skipped = multiprocessing.Value('q', 0)
        self._named = 0
        source = innermost(dataset)
        if isinstance(source, ImageDataset):
            read_once(source)  # otherwise timm replaces images itself, without counting them

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index):
        for attempt in range(MOST_IN_A_ROW):
            try:
                return self.dataset[index]
            except Exception as error:  # image libraries raise anything on a broken file
                if attempt == 0:
                    self._count(index, error)
                reason = error
            index = _next(index, len(self))
        raise RuntimeError(f'{MOST_IN_A_ROW} images in a row can\'t be read; the last is {self._name(index)} '
                           f'({type(reason).__name__}: {reason})')

    def take_skipped(self) -> int:
        """Return how many items could not be read since the last call, in all workers."""
        with self._skipped.get_lock():
            skipped, self._skipped.value = self._skipped.value, 0
        return skipped

    def _count(self, index, error: Exception) -> None:
        with self._skipped.get_lock():
            self._skipped.value += 1
        if self._named < NAMED:
            self._named += 1
            _logger.warning(f'{self._name(index)} can\'t be read ({type(error).__name__}: {error}); another image '
                            'replaces it.')

    def _name(self, index) -> str:
        source = innermost(self.dataset)
        number = index[0] if isinstance(index, tuple) else index
        if isinstance(self.dataset, ImageDataset):
            return source.filename(number, absolute=True)
        return f'item {number} of {type(source).__name__}'


def _next(index, items: int):
    if isinstance(index, tuple):
        return (_next(index[0], items), *index[1:])
    return (index + 1) % items
