"""torchvision's detectors over the pyramid of a timm network."""
from collections.abc import Sequence

from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from .pyramid import PyramidBackbone

ANCHOR_SIZES = (32, 64, 128, 256, 512)  # pixels, one for each map
RATIOS = (0.5, 1.0, 2.0)
REPRESENTATION = 1024  # values of a region before the box head's last layers
MASK_LAYERS = 4


class _WithLosses:
    """A detector that also takes batches that are already resized, and returns their losses."""

    def forward(self, images, targets=None):
        """Run as torchvision's detector does; an ImageList is taken as it is, in training."""
        if not isinstance(images, ImageList):
            return super().forward(images, targets)
        features = self.backbone(images.tensors)
        proposals, of_proposals = self.rpn(images, features, targets)
        _, of_regions = self.roi_heads(features, proposals, images.image_sizes, targets)
        return {**of_proposals, **of_regions}


class FasterDetector(_WithLosses, FasterRCNN):
    """Faster R-CNN."""


class MaskDetector(_WithLosses, MaskRCNN):
    """Mask R-CNN."""


KINDS: dict[str, type[nn.Module]] = {'mask_rcnn': MaskDetector, 'faster_rcnn': FasterDetector}


def create_detector(
    kind: str, backbone: PyramidBackbone, classes: int, *, anchor_sizes: Sequence[int] = ANCHOR_SIZES, **kwargs,
) -> nn.Module:
    """Create a detector with the anchors of the paper on feature pyramids: three shapes of one size on each map.

    The mask head is as wide as the pyramid; with 256 channels it is torchvision's.

    Args:
        kind: One of KINDS.
        backbone: The pyramid.
        classes: Number of categories, without the background.
        anchor_sizes: Side of a square anchor on each of the pyramid's maps, in pixels of the resized image.
        **kwargs: More arguments of torchvision's detector, such as min_size, max_size, image_mean, image_std.
    """
    channels = backbone.out_channels
    heads = {'box_predictor': FastRCNNPredictor(REPRESENTATION, classes + 1)}
    if kind == 'mask_rcnn':
        heads['mask_head'] = MaskRCNNHeads(channels, [channels] * MASK_LAYERS, 1)
        heads['mask_predictor'] = MaskRCNNPredictor(channels, channels, classes + 1)
    anchors = AnchorGenerator(tuple((size,) for size in anchor_sizes), (RATIOS,) * len(anchor_sizes))
    return KINDS[kind](backbone, rpn_anchor_generator=anchors, **heads, **kwargs)


def has_masks(detector: nn.Module) -> bool:
    """Return whether a detector predicts masks."""
    return isinstance(detector, MaskRCNN)
