"""The transformations of a sub-network's input: resizing and rotating the whole batch."""
from dataclasses import dataclass
from numbers import Real

import torch
import torch.nn.functional as F
from torchvision.transforms.functional import InterpolationMode, rotate

from ..upstream import suggest_memory_format


@dataclass(frozen=True)
class InputTransform:
    """What a sub-network's input goes through.

    Args:
        size: A fraction of the batch's height and width (float), or pixels of the longer of them (int).
        angle: Rotation in degrees, counter-clockwise.
    """
    size: float = 1.0
    angle: float = 0.0


def output_size(size: float, height: int, width: int) -> tuple[int, int]:
    """Height and width of the resized batch, in pixels; the aspect ratio stays."""
    scale = size if isinstance(size, Real) and size <= 1 else size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def apply_transform(x: torch.Tensor, transform: InputTransform) -> torch.Tensor:
    """The batch [N, C, H, W] resized bilinearly with aligned corners, as in the paper's code, then rotated."""
    size = output_size(transform.size, *x.shape[-2:])
    if size != tuple(x.shape[-2:]):
        x = F.interpolate(x, size, mode='bilinear', align_corners=True)
    if not transform.angle:
        return x
    layout = suggest_memory_format(x)
    return rotate(x, transform.angle, InterpolationMode.BILINEAR).contiguous(memory_format=layout)
