"""COCO's figures of a detector, over all processes."""
import logging
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn

from ..data.class_names import listed
from ..training.loop.between_steps import DataError
from ..training.run import Run
from .coco import Coco, truth_of
from .coco_metrics import Evaluation, as_results, coco_figures
from .loaders import Batch

_logger = logging.getLogger(__name__)

NAMED = 3  # unreadable images in a message


@torch.inference_mode()
def detect(network: nn.Module, batches: Iterable[Batch]) -> tuple[list[dict], list[int]]:
    """Return what the network finds in all batches, in COCO's format of results, and the images that were read.

    Images are told by their places in the annotations, categories by their labels.
    """
    network.eval()
    results, seen = [], []
    for images, targets in batches:
        if images:
            places = [int(target['image_id']) for target in targets]
            results += as_results(network(images), places)
            seen += places
    return results, seen


def figures_of(coco: Coco, results: list[dict], seen: list[int], kinds: tuple[str, ...]) -> Evaluation:
    """Compute COCO's figures of the images that were read; the others are named and left out.

    Args:
        coco: The annotations.
        results: What was found.
        seen: The places of the images that were read.
        kinds: 'box', 'mask', or both.

    Raises:
        DataError: No image was read.
    """
    unread = unread_images(coco, seen)
    if not seen:
        raise DataError(f'none of the {len(unread)} images of {coco.path} can be read')
    if unread:
        _logger.warning(f'{len(unread)} of {len(unread) + len(seen)} images of {coco.path} can\'t be read and are left '
                        f'out of the figures: {listed(unread, NAMED)}')
    return coco_figures(truth_of(coco, sorted(seen)), results, kinds)


def unread_images(coco: Coco, seen: list[int]) -> list[str]:
    """Return the names of the images that should have been read and were not."""
    read = set(seen)
    return [entry.name for place, entry in enumerate(coco.images) if entry.usable and place not in read]


def evaluate(
        run: Run,
        network: nn.Module,
        *,
        coco: Coco,
        kinds: tuple[str, ...],
        title: str = 'Validation',
) -> dict[str, float]:
    """Compute the twelve figures of boxes, and of masks if `kinds` has them, on the validation split."""
    loader = run.loaders.validation
    with run.precision.autocast():
        results, seen = detect(network, run.bar.over(loader, len(loader), title))
    if run.process.distributed:
        parts: list = [None] * run.process.world_size
        dist.all_gather_object(parts, (results, seen))
        results = [entry for part in parts for entry in part[0]]
        seen = [place for part in parts for place in part[1]]
    metrics = figures_of(coco, results, seen, kinds).figures
    if run.process.primary:
        _logger.info(f'{title}:  ' + '  '.join(f'{name}: {value:.4g}' for name, value in metrics.items()))
    return metrics
