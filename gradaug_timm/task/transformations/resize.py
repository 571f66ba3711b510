"""Smaller or larger images."""
from numbers import Integral, Real
from typing import Any

import torch
import torch.nn.functional as F

from ..transforms import InputTransformation, register_transform


@register_transform('size')
class Resize(InputTransformation):
    """Resize bilinearly with aligned corners, as in the paper's code; the aspect ratio stays.

    The value is a fraction of height and width (float), or pixels of the longer of them (int).
    """
    allowed = 'a fraction (a float above 0, at most 1.0) or pixels (an integer above 1)'
    only_resizes = True

    @classmethod
    def is_allowed(cls, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        return value > 1 if isinstance(value, Integral) else 0 < value <= 1  # type: ignore[operator]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        scale = self.value if self.value <= 1 else self.value / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def changes(self, height: int, width: int) -> bool:
        return self.output_size(height, width) != (height, width)

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(images, self.output_size(*images.shape[-2:]), mode='bilinear', align_corners=True)
