"""Predictions of the full network for its regions of interest, and the losses by which sub-networks learn them."""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection.image_list import ImageList

from ..task.losses import softmax_divergence
from .rescale import Target

BOX_BETA = 1 / 9  # where torchvision's loss of boxes turns from squares to absolute values


@dataclass
class Predictions:
    """Predictions of the full network for the R regions of a batch.

    P of the regions hold an object; `classes` counts the background.

    Args:
        regions: The regions [r, 4] of each image, in pixels (x1, y1, x2, y2).
        logits: Logits of classes [R, classes].
        deltas: Corrections of the regions by class [R, 4 * classes], relative to their size.
        masks: Logits of masks by class [P, classes, h, w]; None without masks.
    """
    regions: list[torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    deltas: torch.Tensor | None = None
    masks: torch.Tensor | None = None


@contextmanager
def recorded(heads: nn.Module) -> Iterator[Predictions]:
    """Record what the region heads of a detector (torchvision's RoIHeads) predict within the context."""
    found = Predictions()

    def keep_regions(module, inputs, output):
        found.regions = inputs[1]

    def keep_boxes(module, inputs, output):
        found.logits, found.deltas = (each.detach() for each in output)

    def keep_masks(module, inputs, output):
        found.masks = output.detach()

    hooks = [(heads.box_roi_pool, keep_regions), (heads.box_predictor, keep_boxes)]
    if heads.has_mask():
        hooks.append((heads.mask_predictor, keep_masks))
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def region_losses(
        detector: nn.Module,
        images: ImageList,
        targets: list[Target],
        predictions: Predictions,
        temperature: float = 1.0,
) -> dict[str, torch.Tensor]:
    """Compute the losses of a detector: of proposals by the truth, of regions by the full network's predictions.

    Args:
        detector: The detector, whose backbone may run as a sub-network.
        images: The resized batch: the first images of those that `predictions` are for.
        targets: Its objects, resized with it, as `with_regions` returns them.
        predictions: Predictions of the full network.
        temperature: Temperature of the classes.
    """
    heads = detector.roi_heads
    features = detector.backbone(images.tensors)
    _, losses = detector.rpn(images, features, targets)
    regions = [target['regions'] for target in targets]
    pooled = heads.box_roi_pool(features, regions, images.image_sizes)
    logits, deltas = heads.box_predictor(heads.box_head(pooled))
    wanted, wanted_deltas = predictions.logits[:len(logits)], predictions.deltas[:len(logits)]
    losses['loss_classifier'] = softmax_divergence(logits, wanted, temperature)
    losses['loss_box_reg'] = box_difference(deltas, wanted_deltas, wanted)
    if predictions.masks is not None:
        labels = [target['region_labels'] for target in targets]
        with_object = [region[label > 0] for region, label in zip(regions, labels)]
        masks = heads.mask_predictor(
            heads.mask_head(heads.mask_roi_pool(features, with_object, images.image_sizes)))
        of_objects = torch.cat([label[label > 0] for label in labels])
        losses['loss_mask'] = mask_divergence(masks, predictions.masks[:len(masks)], of_objects)
    return losses


def with_regions(heads: nn.Module, targets: list[Target], predictions: Predictions) -> list[Target]:
    """Add the full network's regions [r, 4] to targets, and the classes [r] that the truth gives them."""
    boxes, labels = ([target[name] for target in targets] for name in ('boxes', 'labels'))
    _, of_regions = heads.assign_targets_to_proposals(predictions.regions, boxes, labels)
    return [{**target, 'regions': region, 'region_labels': label}
            for target, region, label in zip(targets, predictions.regions, of_regions)]


def box_difference(deltas: torch.Tensor, full_deltas: torch.Tensor, full_logits: torch.Tensor) -> torch.Tensor:
    """Compute smooth L1 of box corrections, weighted by the full network's class probabilities; mean over regions [].

    Args:
        deltas: Corrections of the sub-network [R, 4 * classes].
        full_deltas: Corrections of the full network.
        full_logits: Logits of the full network [R, classes], the background first.
    """
    shape = *full_logits.shape, 4
    each = F.smooth_l1_loss(
        deltas.float().reshape(shape), full_deltas.float().reshape(shape), beta=BOX_BETA, reduction='none').sum(-1)
    probabilities = full_logits.float().softmax(-1)
    return (each * probabilities)[:, 1:].sum() / max(len(deltas), 1)


def mask_divergence(masks: torch.Tensor, full_masks: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute binary cross-entropy with the full network's masks of the objects' classes; mean over pixels [].

    Args:
        masks: Logits of the sub-network [P, classes, h, w].
        full_masks: Logits of the full network.
        labels: Class of each region [P].
    """
    if not len(masks):
        return masks.sum()
    own = torch.arange(len(labels), device=labels.device), labels
    return F.binary_cross_entropy_with_logits(masks[own].float(), full_masks[own].float().sigmoid())

