"""A part of the images."""
from typing import Any

import torch

from ..transforms import InputTransformation, register_transform


@register_transform('crop')
class RandomCrop(InputTransformation):
    """Cut the same random window out of every image (named among the transformations in section 3 of the paper).

    The value is the window's share of height and of width. Where it lies is drawn uniformly, from (seed, step,
    sub-network).
    """
    allowed = 'a fraction above 0, at most 1'
    is_random = True

    @classmethod
    def is_allowed(cls, value: Any) -> bool:
        return 0 < value <= 1

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return max(1, round(self.value * height)), max(1, round(self.value * width))

    def changes(self, height: int, width: int) -> bool:
        return self.output_size(height, width) != (height, width)

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        size, generator = self.output_size(*images.shape[-2:]), self.generator()
        top, left = (int(torch.randint(whole - part + 1, (), generator=generator))
                     for whole, part in zip(images.shape[-2:], size))
        return images[..., top:top + size[0], left:left + size[1]]
