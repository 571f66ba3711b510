"""Input of a detector's sub-network: a smaller batch, with its boxes and masks."""
import math

import torch
import torch.nn.functional as F
from torchvision.models.detection.image_list import ImageList

STRIDE = 32  # of the coarsest map of the network: anchors lie exactly where the padded size is its multiple

Target = dict[str, torch.Tensor]


def rescale(images: ImageList, targets: list[Target], size: tuple[int, int]) -> tuple[ImageList, list[Target]]:
    """Resize a batch bilinearly, pad it with zeros to the network's stride, and rescale its boxes and masks.

    Args:
        images: The batch [N, 3, H, W] with the images' own sizes (height, width) within it.
        targets: For each image 'boxes' [M, 4] in pixels (x1, y1, x2, y2), 'labels' [M], and optionally 'masks'
            [M, H, W] and 'regions' [r, 4] like boxes.
        size: The new height and width, in pixels.
    """
    height, width = images.tensors.shape[-2:]
    new_height, new_width = size
    if (new_height, new_width) == (height, width):
        return images, targets
    tensors = F.interpolate(images.tensors, (new_height, new_width), mode='bilinear')  # keeps places, as boxes do
    ratios = new_height / height, new_width / width
    right, below = (-side % STRIDE for side in (new_width, new_height))
    sizes = [(min(new_height, math.ceil(h * ratios[0])), min(new_width, math.ceil(w * ratios[1])))
             for h, w in images.image_sizes]
    batch = ImageList(F.pad(tensors, (0, right, 0, below)), sizes)
    return batch, [_rescale_target(target, (new_height, new_width), (height, width), own)
                   for target, own in zip(targets, sizes)]


def _rescale_target(target: Target, new: tuple[int, int], old: tuple[int, int], own: tuple[int, int]) -> Target:
    y, x = new[0] / old[0], new[1] / old[1]
    scale = target['boxes'].new_tensor([x, y, x, y])
    scaled: Target = {**target, **{name: target[name] * scale for name in ('boxes', 'regions') if name in target}}
    if 'masks' in target:
        masks = target['masks'][:, None].float()
        scaled['masks'] = F.interpolate(masks, own, mode='nearest')[:, 0].to(target['masks'].dtype)
    return scaled
