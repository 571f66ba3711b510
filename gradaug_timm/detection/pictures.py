"""Pictures of what a detector found."""
import os
import re

import torch
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks, save_image

from .coco_metrics import MASK_THRESHOLD


def draw(image: torch.Tensor, output: dict[str, torch.Tensor], names: list[str], *, score: float) -> torch.Tensor:
    """Draw boxes, categories, scores and masks into an image.

    Args:
        image: [3, H, W] in 0 to 1.
        output: The detector's 'boxes', 'labels', 'scores' and perhaps 'masks' of this image.
        names: Names of the categories, from label 1 on.
        score: Lowest score that is drawn.

    Returns:
        [3, H, W] in 0 to 1.
    """
    shown = output['scores'] >= score
    if not shown.any():
        return image
    texts = [f'{names[label - 1]} {value:.2f}'
             for label, value in zip(output['labels'][shown].tolist(), output['scores'][shown].tolist())]
    picture = (image * 255).round().to(torch.uint8)
    if 'masks' in output:
        picture = draw_segmentation_masks(picture, output['masks'][shown, 0] > MASK_THRESHOLD, alpha=0.5)
    return draw_bounding_boxes(picture, output['boxes'][shown], texts) / 255


def save_picture(picture: torch.Tensor, folder: str, file_name: str) -> str:
    """Write a picture [3, H, W] in 0 to 1 as a PNG file named after the image; return its path."""
    stem = os.path.splitext(file_name)[0]
    path = os.path.join(folder, re.sub(r'[^\w.-]', '_', stem) + '.png')
    save_image(picture, path)
    return path
