"""Training data whose order and random transforms follow from keys, so that a run can go on at any batch.

The order of an epoch follows from (seed, epoch), the transforms of a sample from (seed, process, epoch, batch, place in
it): the number of workers doesn't matter, and nothing of a generator's state has to be kept.
"""
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler

from ..seeding import seed_all, seed_cpu, seed_of
from ..upstream import PrefetchLoader, RandomErasing, batch_sampler_of, replace_batch_sampler, replace_dataset
from .readable import ReadableDataset


class KeyedDataset(Dataset):
    """Reads item `index` of a data set, with all that is random in it following from `seed`: `dataset[seed, index]`."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple):
        seed, index = key
        seed_cpu(seed)
        return self.dataset[index]


class KeyedBatchSampler(Sampler):
    """Batches of (seed of the sample, index), in the order that another batch sampler has in an epoch.

    Each iteration is the next epoch: workers read ahead, and some iterate on before anyone could tell them the epoch.

    Args:
        batches: The batch sampler; it, or the sampler in it, is random by its epoch or by torch's generator.
        seed: Of order and samples.
        rank: Of the process.
    """

    def __init__(self, batches: Sampler, *, seed: int, rank: int = 0):
        self.batches, self.seed, self.rank = batches, seed, rank
        self.sampler = getattr(batches, 'sampler', None)
        self._epoch, self._first = 0, 0

    def __len__(self) -> int:
        return len(self.batches)

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """The next iteration is that epoch, without its first `batch` batches."""
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
            self.sampler.generator = torch.Generator().manual_seed(seed_of(self.seed, 'order', epoch))
        for part in (self.batches, self.sampler):
            if hasattr(part, 'set_epoch'):
                part.set_epoch(epoch)


class KeyedErasing:
    """Erases parts of the images of one batch after the other, each batch by its own key.

    Args:
        erasing: timm's, of its prefetching loader.
        batches: Batches an epoch.
        seed: The seed.
        rank: Of the process.
    """

    def __init__(self, erasing: RandomErasing, batches: int, *, seed: int, rank: int = 0):
        self._erasing, self._batches, self._seed, self._rank = erasing, batches, seed, rank
        self.start_at(0)

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """The next batch that is erased."""
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
    """Makes timm's loader of a map-style data set read by keys; returns what has to be told where to start."""
    inner = loader.loader if isinstance(loader, PrefetchLoader) else loader
    sampler = KeyedBatchSampler(batch_sampler_of(inner), seed=seed, rank=rank)
    replace_batch_sampler(inner, sampler)
    replace_dataset(inner, KeyedDataset(ReadableDataset(inner.dataset)))
    if not isinstance(loader, PrefetchLoader) or loader.random_erasing is None:
        return [sampler]
    erasing = KeyedErasing(loader.random_erasing, len(loader), seed=seed, rank=rank)
    loader.random_erasing = erasing  # type: ignore[assignment]
    return [sampler, erasing]
