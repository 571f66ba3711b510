"""timm's data sets of images, read at their depth, and with errors where timm skips images."""
from collections.abc import Iterator
from functools import partial
from typing import Any

from timm.data import ImageDataset, IterableImageDataset
from torch.utils.data import Dataset

from ..cli import one_line
from ..upstream import prepare_stream
from .guarded import ReadingError, guard
from .images import in_mode, read_image
from .readable import UnreadableImages

FATE = 'it is left out'


class Images(ImageDataset):
    """timm's data set of numbered images; it raises an error for an unreadable image, where timm reads another."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.unreadable = UnreadableImages()

    def __getitem__(self, index):
        file, target, *features = self.reader[index]
        image = file.read() if self.load_bytes else read_image(file, self.input_img_mode)
        if self.transform is not None:
            image = self.transform(image)
        if target is None:
            target = -1
        else:
            target = self.target_transform(target) if self.target_transform is not None else whole_number(target)
        return (image, target) if self.additional_features is None else (image, target, *features)


class StreamedImages(IterableImageDataset):
    """timm's data set of streamed images; unreadable images are counted and left out.

    Args:
        dataset: The data set of timm, whose reader is used.
        mode: PIL mode of the images.
    """

    def __init__(self, dataset: IterableImageDataset, mode: str):
        super().__init__(
            None, reader=dataset.reader, transform=dataset.transform, target_transform=dataset.target_transform)
        self.mode = mode
        self.unreadable = UnreadableImages(streamed=True)
        self.reader.input_img_mode = ''  # images are converted here, at their depth

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        guard(self)
        prepare_stream(self.reader, lambda text: self.unreadable.add(f'{text}; {FATE}.'))
        for image, target in self._samples():
            try:
                image = in_mode(image, self.mode)
            except Exception as error:  # image libraries raise anything on a broken file
                self.unreadable.add(f'an image can\'t be read ({one_line(error, None, kind=True)}); {FATE}.')
                continue
            if self.transform is not None:
                image = self.transform(image)
            yield image, self.target_transform(target) if self.target_transform is not None else whole_number(target)

    def take_skipped(self) -> int:
        """Return how many images could not be read since the last call, in all workers."""
        return self.unreadable.take()

    def _samples(self) -> Iterator[tuple[Any, Any]]:
        try:
            yield from self.reader
        except ReadingError:
            raise
        except Exception as error:  # of the packages that read the data set
            raise ReadingError(one_line(error, None, kind=True)) from error


def whole_number(label: Any) -> Any:
    """Return a whole number that is stored as a float, or a truth value, as the int that losses need."""
    whole = isinstance(label, bool) or (isinstance(label, float) and label.is_integer())
    return int(label) if whole else label


def read_at_depth(dataset: Dataset, mode: str) -> Dataset:
    """Return a data set of timm whose images are read at their depth and whose unreadable images are not hidden."""
    if isinstance(dataset, IterableImageDataset):
        return StreamedImages(dataset, mode)
    if isinstance(dataset, ImageDataset):
        return Images(
            None,
            reader=dataset.reader,
            load_bytes=dataset.load_bytes,
            input_img_mode=dataset.input_img_mode,
            transform=dataset.transform,
            target_transform=dataset.target_transform,
            additional_features=dataset.additional_features,
        )
    if hasattr(dataset, 'loader'):  # torchvision's image folders, which read RGB
        dataset.loader = partial(read_image, mode=mode)
    return dataset
