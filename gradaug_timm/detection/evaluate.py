"""COCO's figures of a detector, over all processes."""
import logging
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn

from ..training.run import Run
from .coco import Coco
from .coco_metrics import as_results, coco_figures
from .loaders import Batch

_logger = logging.getLogger(__name__)


@torch.inference_mode()
def detect(network: nn.Module, batches: Iterable[Batch], categories: list[int]) -> list[dict]:
    """Return what the network finds in all batches, in COCO's format of results."""
    network.eval()
    results = []
    for images, targets in batches:
        image_ids = [int(target['image_id']) for target in targets]
        results += as_results(network(images), image_ids, categories)
    return results


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
        results = detect(network, run.bar.over(loader, len(loader), title), coco.categories)
    if run.process.distributed:
        parts: list = [None] * run.process.world_size
        dist.all_gather_object(parts, results)
        results = [entry for part in parts for entry in part]
    metrics = coco_figures(coco.path, results, kinds)
    if run.process.primary:
        _logger.info(f'{title}:  ' + '  '.join(f'{name}: {value:.4g}' for name, value in metrics.items()))
    return metrics
