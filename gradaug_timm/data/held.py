"""A data set that is held on the device as a whole."""
import logging
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision.transforms import functional

from ..upstream import fast_collate
from .class_names import class_names
from .readable import LEFT_OUT, ReadableDataset

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
        leave_out: bool = False,
) -> HeldImages:
    """Read a data set onto the device.

    Args:
        dataset: Data set of uint8 tensors of one size, and targets.
        device: Device that holds the images.
        padding: Pixels added on each side of an image.
        padding_mode: `reflect`, or `constant` for zeros.
        workers: Number of reading processes; they end after reading.
        leave_out: Leave out unreadable images, instead of holding another image in their place.

    Raises:
        ValueError: The data set has no known length, or would take more than 2 GiB.
    """
    if isinstance(dataset, IterableDataset):
        raise ValueError('--device-augment needs a data set of known length, not an iterable data set')
    dataset = ReadableDataset(dataset, leave_out=leave_out)
    images = torch.empty(_padded_shape(dataset, padding), dtype=torch.uint8, device=device)
    dataset.take_skipped()  # of the image that gave the shape
    targets, start = [], 0
    for batch, labels in DataLoader(dataset, READ_AT_ONCE, num_workers=workers, collate_fn=fast_collate):
        images[start:start + len(batch)] = functional.pad(batch.to(device), [padding], padding_mode=padding_mode)
        targets.append(labels)
        start += len(batch)
    labels = torch.cat(targets).to(device)
    count = dataset.take_skipped()
    if leave_out and count:
        kept = (labels.flatten(1)[:, 0] if labels.ndim > 1 else labels) != LEFT_OUT
        images, labels = images[kept], labels[kept]
    if count:
        fate = 'left out' if leave_out else 'replaced by others'
        _logger.warning(f'{count} images could not be read and are {fate}.')
    _logger.info(f'{len(images)} images held on {device}: {images.nbytes / 2 ** 20:.0f} MiB.')
    return HeldImages(images, labels, padding, class_names(dataset))


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
