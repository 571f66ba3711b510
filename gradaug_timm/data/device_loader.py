"""A loader without workers: batches come from a data set that lies on the device."""
from collections.abc import Iterator

import torch
from torch.utils.data import BatchSampler, Sampler

from ..upstream import adapt_to_chs
from .crops import crop_and_flip, draw_epoch
from .held import HeldImages


class DeviceLoader:
    """Batches of (normalised images, targets) on the device.

    Order and draws go to the device once an epoch; no batch waits for it.

    Args:
        dataset: The images.
        sampler: Their order in an epoch; for augmentation one that knows its epoch, as DistributedSampler.
        batch_size: Images a batch.
        drop_last: Leave out a last, incomplete batch.
        mean: Mean of the channels, in 0..1.
        std: Standard deviation of the channels.
        dtype: Type of the images given out.
        flips: Dimension to probability of a flip; None: neither crops nor flips.
        seed: Of crops and flips.
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
        """The next iteration leaves out the first batches; its epoch is the sampler's."""
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
        """Values in 0..1 as values of pixels, as timm's prefetcher has them."""
        images = self.dataset.images
        pixels = [value * 255 for value in adapt_to_chs(values, images.shape[1])]
        return torch.tensor(pixels, device=images.device, dtype=self.dtype).view(1, -1, 1, 1)
