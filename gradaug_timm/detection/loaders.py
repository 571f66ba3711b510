"""Batches of images of different sizes."""
import logging
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, Sampler
from torchvision.transforms import v2

from ..cli import one_line
from ..data import ReadableDataset
from ..data.keyed import KeyedBatchSampler, KeyedDataset
from ..training.building.loaders import Loaders
from ..training.processes import Process
from .arguments import DetectionSettings
from .coco import Coco, CocoImages
from .rescale import Target
from .shapes import ShapeBatchSampler

_logger = logging.getLogger(__name__)

NAMED = 3  # unreadable images that each process names in the log
Batch = tuple[list[torch.Tensor], list[Target]]


class OnDevice:
    """A loader that moves its batches to a device.

    Args:
        loader: Yields lists of images and of targets.
        device: The device.
    """

    def __init__(self, loader: DataLoader, device: torch.device):
        self.loader, self.device = loader, device
        self.dataset, self.batch_sampler, self.sampler = loader.dataset, loader.batch_sampler, loader.sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for images, targets in self.loader:
            yield ([image.to(self.device, non_blocking=True) for image in images],
                   [{name: value.to(self.device, non_blocking=True) for name, value in target.items()}
                    for target in targets])


def build_loaders(args: DetectionSettings, train: Coco, validation: Coco, process: Process, *, masks: bool) -> Loaders:
    """Build the loaders of a run; order and flips follow from the seed, the epoch and the batch.

    Raises:
        ValueError: There are fewer images than in a batch.
    """
    flipped = CocoImages(train, masks=masks, transform=v2.RandomHorizontalFlip(args.hflip), only_with_objects=True)
    images = len(flipped) // process.world_size
    if images < args.batch_size:
        raise ValueError(f'--batch-size {args.batch_size} must be at most the images with objects of a process, '
                         f'{images}')
    readable = ReadableDataset(flipped)
    order: Sampler = RandomSampler(flipped)
    if process.distributed:
        order = DistributedSampler(flipped, process.world_size, process.rank, seed=args.seed)
    batches = KeyedBatchSampler(
        ShapeBatchSampler(order, args.batch_size, flipped.stands()), seed=args.seed, rank=process.rank)
    common = dict(collate_fn=as_lists, num_workers=args.workers, pin_memory=args.pin_mem)
    loader = DataLoader(
        KeyedDataset(readable), batch_sampler=batches, persistent_workers=args.workers > 0, **common)
    return Loaders(
        train=OnDevice(loader, process.device),
        validation=validation_loader(CocoImages(validation, masks=False), args.batch_size, process, **common),
        mixup=None,
        batch_size=args.batch_size,
        parts=(batches,),
        readable=readable,
        class_names=tuple(train.names),
    )


def validation_loader(dataset: CocoImages, batch_size: int, process: Process, **kwargs) -> OnDevice:
    """Return a loader of each image once, over all processes, without those that can't be read."""
    own = range(process.rank, len(dataset), process.world_size)
    return OnDevice(DataLoader(ReadImages(dataset), batch_size, sampler=own, **kwargs), process.device)


class ReadImages(Dataset):
    """A data set in which None stands for an image that can't be read; the first ones are logged with the reason.

    Args:
        dataset: The images.
    """

    def __init__(self, dataset: CocoImages):
        self.dataset = dataset
        self._named: set[int] = set()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target] | None:
        try:
            return self.dataset[index]
        except Exception as error:  # image libraries raise anything on a broken file
            if len(self._named) < NAMED and index not in self._named:
                self._named.add(index)
                _logger.warning(f'{self.dataset.filename(index)} can\'t be read ({one_line(error, kind=True)}).')
            return None


def as_lists(samples: Sequence[tuple[torch.Tensor, Target] | None]) -> Batch:
    """Collate samples into a list of images and a list of targets."""
    read = [sample for sample in samples if sample is not None]
    return [image for image, _ in read], [target for _, target in read]
