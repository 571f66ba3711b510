"""Turned images."""
from typing import Any

import torch
from torchvision.transforms.functional import InterpolationMode, rotate

from ..transforms import InputTransformation, register_transform


@register_transform('rotation')
class Rotation(InputTransformation):
    """Rotate bilinearly, counter-clockwise, by a value in degrees; corners become zeros."""
    allowed = 'degrees from -360 to 360'

    @classmethod
    def is_allowed(cls, value: Any) -> bool:
        return abs(value) <= 360

    def changes(self, height: int, width: int) -> bool:
        return bool(self.value)

    def describe(self) -> str:
        return f'rotated by {self.value:g}°' if self.value else ''

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        return rotate(images, self.value, InterpolationMode.BILINEAR)
