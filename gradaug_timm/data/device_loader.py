"""Loader without workers, for a data set that is held on the device."""
from collections.abc import Iterator

import torch
from torch.utils.data import BatchSampler, Sampler

from ..upstream import adapt_to_chs
from .crops import crop_and_flip, draw_epoch
from .held import HeldImages


class DeviceLoader:
    """Loader of batches of (normalised images, targets) on the device.

    Order and draws are moved to the device once an epoch, so no batch waits for the device.

    Args:
        dataset: The images.
        sampler: The order of images in an epoch; augmentation needs a sampler with an `epoch`, as DistributedSampler.
        batch_size: Images in a batch.
        drop_last: Drop the last batch if it is incomplete.
        mean: Mean of the channels, in 0..1.
        std: Standard deviation of the channels.
        dtype: Type of the returned images.
        flips: Dimension -> probability of a flip; None for neither crops nor flips.
        seed: Seed of crops and flips.
    """

    def __init__(
            self,
            dataset: HeldImages,
            sampler: Sampler,
            batch_size: int,
            *,
            drop_last: bool = False,
            mean: tuple[float, ...],
            std: tuple[float, ...],
            dtype: torch.dtype = torch.float32,
            flips: dict[int, float] | None = None,
            seed: int = 0,
    ):
        self.dataset = dataset
        self.sampler = sampler
        self.batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dtype, self.flips, self.seed = dtype, flips, seed
        self._first = 0
        self.mean, self.std = self._by_channel(mean), self._by_channel(std)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Make the next iteration skip the first `batch` batches; the epoch is that of the sampler."""
        self._first = batch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        held, first = self.dataset, self._first
        self._first = 0
        draws = None if self.flips is None else draw_epoch(
            len(held), held.padding, self.flips, seed=self.seed, epoch=self.sampler.epoch, device=held.images.device)
        order = torch.tensor(list(self.sampler), device=held.images.device)
        for index in order.split(self.batch_sampler.batch_size)[first:len(self)]:
            batch = held.images[index] if draws is None else crop_and_flip(held.images, index, held.size, draws)
            yield batch.to(self.dtype).sub_(self.mean).div_(self.std), held.targets[index]

    def _by_channel(self, values: tuple[float, ...]) -> torch.Tensor:
        """Return values in 0..1 as pixel values [1, C, 1, 1], as timm's prefetcher does."""
        images = self.dataset.images
        pixels = [value * 255 for value in adapt_to_chs(values, images.shape[1])]
        return torch.tensor(pixels, device=images.device, dtype=self.dtype).view(1, -1, 1, 1)
