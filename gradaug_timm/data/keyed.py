"""Training data whose order and random transforms follow from keys, so that a run can resume at any batch.

The order of an epoch follows from (seed, epoch). The transforms of a sample follow from (seed, process, epoch, batch,
place in the batch). So the number of workers does not matter, and no generator state has to be saved.
"""
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, Sampler

from ..seeding import generator, seed_all, seed_cpu, seed_of
from ..upstream import PrefetchLoader, RandomErasing, batch_sampler_of, replace_batch_sampler, replace_dataset
from .readable import ReadableDataset


class KeyedDataset(Dataset):
    """Data set of which `dataset[seed, index]` reads item `index` with all random transforms seeded by `seed`."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple):
        seed, index = key
        seed_cpu(seed)
        return self.dataset[index]


class KeyedBatchSampler(Sampler):
    """Batch sampler that yields (seed of the sample, index) in the order of another batch sampler.

    Each iteration is the next epoch, because workers read ahead and may start the next epoch before `start_at` is
    called.

    Args:
        batches: The batch sampler; its order, or the order of the sampler in it, depends on the epoch or on torch's
            generator.
        seed: Seed of order and samples.
        rank: Rank of the process.
    """

    def __init__(self, batches: Sampler, *, seed: int, rank: int = 0):
        self.batches, self.seed, self.rank = batches, seed, rank
        self.sampler = getattr(batches, 'sampler', None)
        self._epoch, self._first = 0, 0

    def __len__(self) -> int:
        return len(self.batches)

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Make the next iteration that of `epoch`, without the first `batch` batches."""
        self._epoch, self._first = epoch, batch

    def __iter__(self) -> Iterator[list[tuple]]:
        epoch, first = self._epoch, self._first
        self.start_at(epoch + 1)
        self._set_epoch(epoch)
        for number, batch in enumerate(self.batches):
            if number >= first:
                seed = seed_of(self.seed, 'samples', self.rank, epoch, number)
                yield [(seed + place, index) for place, index in enumerate(batch)]

    def _set_epoch(self, epoch: int) -> None:
        if isinstance(self.sampler, RandomSampler):
            self.sampler.generator = generator(self.seed, 'order', epoch)
        for part in (self.batches, self.sampler):
            set_epoch = getattr(part, 'set_epoch', None)
            if set_epoch is not None:
                set_epoch(epoch)


class KeyedErasing:
    """Random erasing in which each batch has its own key.

    Args:
        erasing: Random erasing of timm's prefetching loader.
        batches: Batches in an epoch.
        seed: The seed.
        rank: Rank of the process.
    """

    def __init__(self, erasing: RandomErasing, batches: int, *, seed: int, rank: int = 0):
        self._erasing, self._batches, self._seed, self._rank = erasing, batches, seed, rank
        self.start_at(0)

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Set the epoch and the number of the next batch."""
        self._next = epoch * self._batches + batch

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        seed_all(seed_of(self._seed, 'erasing', self._rank, *divmod(self._next, self._batches)))
        self._next += 1
        return self._erasing(images)


def key_loader(
        loader: DataLoader | PrefetchLoader,
        *,
        seed: int,
        rank: int = 0,
) -> list[KeyedBatchSampler | KeyedErasing]:
    """Make timm's loader of a map-style data set read by keys; return the objects whose `start_at` must be called.

    Args:
        loader: The loader; it is changed in place.
        seed: Seed of order and samples.
        rank: Rank of the process.
    """
    inner = loader.loader if isinstance(loader, PrefetchLoader) else loader
    sampler = KeyedBatchSampler(batch_sampler_of(inner), seed=seed, rank=rank)
    replace_batch_sampler(inner, sampler)
    replace_dataset(inner, KeyedDataset(ReadableDataset(inner.dataset)))
    if not isinstance(loader, PrefetchLoader) or loader.random_erasing is None:
        return [sampler]
    erasing = KeyedErasing(loader.random_erasing, len(loader), seed=seed, rank=rank)
    loader.random_erasing = erasing  # type: ignore[assignment]
    return [sampler, erasing]


def leave_out_unreadable(loader: DataLoader | PrefetchLoader) -> None:
    """Make a loader of evaluation mark unreadable images, which `ReadRows` leaves out of results; changed in place."""
    _wrap(loader, leave_out=True)


def replace_unreadable(loader: DataLoader | PrefetchLoader) -> None:
    """Make a loader of training images replace unreadable images by others; changed in place."""
    _wrap(loader, leave_out=False)


def _wrap(loader: DataLoader | PrefetchLoader, *, leave_out: bool) -> None:
    inner = loader.loader if isinstance(loader, PrefetchLoader) else loader
    if not isinstance(inner.dataset, IterableDataset):
        replace_dataset(inner, ReadableDataset(inner.dataset, leave_out=leave_out))
