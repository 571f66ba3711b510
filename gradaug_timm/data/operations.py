"""timm's operations of AutoAugment, RandAugment and AugMix on images of any mode."""
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

NATIVE = ('L', 'RGB')  # modes for which PIL supports every operation
TABLES = ('AutoContrast', 'Equalize', 'Invert', 'Posterize', 'Solarize', 'GaussianBlur')  # beginnings of their names
ALPHA = {'LA': 1, 'RGBA': 1}  # bands at the end that are no colours


def operations_of(step: Any) -> list[Any]:
    """Return the operations of a step of a pipeline; none if it has no choice of operations."""
    policy = getattr(step, 'policy', None)
    if isinstance(policy, list):
        return [operation for part in policy for operation in part]
    return list(getattr(step, 'ops', None) or [])


def fit_operations(steps: Iterator[Any]) -> None:
    """Let all operations of a pipeline act on images of every mode, and with every magnitude, in place."""
    for step in steps:
        for operation in operations_of(step):
            if operation.name.startswith(TABLES) and not isinstance(operation.aug_fn, ByBands):
                operation.aug_fn = ByBands(operation.aug_fn, bits=operation.name.startswith('Posterize'))


class ByBands:
    """An operation on each colour by itself, which PIL supports only for some modes.

    With 0 bits, images become black, as in versions of PIL that have no check.

    Args:
        operation: The operation.
        bits: Whether its argument is a number of bits to keep.
    """

    def __init__(self, operation: Callable[..., Image.Image], *, bits: bool = False):
        self.operation, self.bits = operation, bits

    def __call__(self, image: Image.Image, *values, **kwargs) -> Image.Image:
        if image.mode in NATIVE:
            return self._apply(image, *values, **kwargs)
        bands = image.split()
        colours = len(bands) - ALPHA.get(image.mode, 0)
        changed = [self._apply(band, *values, **kwargs) for band in bands[:colours]]
        return Image.merge(image.mode, [*changed, *bands[colours:]])

    def _apply(self, image: Image.Image, *values, **kwargs) -> Image.Image:
        if self.bits and values and values[0] < 1:
            return Image.new(image.mode, image.size)
        return self.operation(image, *values, **kwargs)
