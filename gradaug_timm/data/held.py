"""A data set that is held on the device as a whole."""
import logging
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision.transforms import functional

from ..upstream import fast_collate
from .class_names import class_names

_logger = logging.getLogger(__name__)

LIMIT = 2 * 2 ** 30
READ_AT_ONCE = 256


@dataclass(frozen=True)
class HeldImages:
    """Images and targets on the device: one uint8 tensor [N, C, H, W] with `padding` pixels on each side."""

    images: torch.Tensor
    targets: torch.Tensor
    padding: int = 0
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width without the padding."""
        height, width = self.images.shape[2:]
        return height - 2 * self.padding, width - 2 * self.padding


def hold(
        dataset: Dataset,
        *,
        device: torch.device,
        padding: int = 0,
        padding_mode: str = 'constant',
        workers: int = 0,
) -> HeldImages:
    """Read a data set onto the device.

    Args:
        dataset: Data set of uint8 tensors of one size, and targets.
        device: Device that holds the images.
        padding: Pixels added on each side of an image.
        padding_mode: `reflect`, or `constant` for zeros.
        workers: Number of reading processes; they end after reading.

    Raises:
        ValueError: The data set has no known length, or would take more than 2 GiB.
    """
    if isinstance(dataset, IterableDataset):
        raise ValueError('--device-augment needs a data set of known length, not an iterable data set')
    images = torch.empty(_padded_shape(dataset, padding), dtype=torch.uint8, device=device)
    targets, start = [], 0
    for batch, labels in DataLoader(dataset, READ_AT_ONCE, num_workers=workers, collate_fn=fast_collate):
        images[start:start + len(batch)] = functional.pad(batch.to(device), [padding], padding_mode=padding_mode)
        targets.append(labels)
        start += len(batch)
    _logger.info(f'{len(images)} images held on {device}: {images.nbytes / 2 ** 20:.0f} MiB.')
    return HeldImages(images, torch.cat(targets).to(device), padding, class_names(dataset))


def _padded_shape(dataset: Dataset, padding: int) -> tuple[int, int, int, int]:
    channels, height, width = dataset[0][0].shape
    shape = (len(dataset), channels, height + 2 * padding, width + 2 * padding)
    size = torch.Size(shape).numel()
    if size > LIMIT:
        padded = f' padded by {padding}' * bool(padding)
        raise ValueError(
            f'--device-augment: {len(dataset)} images of {channels}x{height}x{width}{padded} are '
            f'{size / 2 ** 30:.3g} GiB, more than the limit of {LIMIT / 2 ** 30:.3g} GiB')
    return shape
