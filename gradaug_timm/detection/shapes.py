"""Batches of images of the same format."""
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain

from torch.utils.data import Sampler


class ShapeBatchSampler(Sampler):
    """Batches of one shape each, since all images of a batch are padded to its largest height and width.

    The images that remain of each shape are batched together at the end, so that shapes cost no batch; an incomplete
    last batch is left out.

    Args:
        sampler: The order of an epoch.
        batch_size: Images per batch.
        shapes: The shape of each image, as anything hashable.
    """

    def __init__(self, sampler: Sampler, batch_size: int, shapes: Sequence[Hashable]):
        self.sampler, self.batch_size, self._shapes = sampler, batch_size, shapes

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[Hashable, list[int]] = {}
        for index in self.sampler:
            batch = waiting.setdefault(self._shapes[index], [])
            batch.append(index)
            if len(batch) == self.batch_size:
                yield waiting.pop(self._shapes[index])
        rest = [*chain(*waiting.values())]
        for first in range(0, len(rest) - self.batch_size + 1, self.batch_size):
            yield rest[first:first + self.batch_size]
