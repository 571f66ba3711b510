"""Validation of the full network."""
import logging

import torch
from timm.task import evaluation_sample_limit
from torch import nn

from .trainer import Trainer

_logger = logging.getLogger(__name__)


@torch.inference_mode()
def evaluate(trainer: Trainer, network: nn.Module, *, title: str = 'Validation') -> dict[str, float]:
    """The metrics of the task on the validation split, over all processes."""
    args, loader = trainer.args, trainer.loaders.validation
    network.eval()
    evaluator = trainer.task.create_evaluator(max_samples=evaluation_sample_limit(loader))
    for images, target in trainer.progress.over(loader, len(loader), title):
        if args.no_prefetcher:
            images = images.to(trainer.host.device, trainer.precision.model_dtype)
            target = target.to(trainer.host.device)
        if args.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with trainer.precision.autocast():
            output = network(images)
        output = output[0] if isinstance(output, (tuple, list)) else output
        evaluator.update(*_average_crops(output, target, args.tta))
    metrics = evaluator.compute(distributed=trainer.host.distributed)
    if trainer.host.primary:
        _logger.info(f'{title}:  ' + '  '.join(f'{name}: {value:.4g}' for name, value in metrics.items()))
    return dict(metrics)


def _average_crops(output: torch.Tensor, target: torch.Tensor, crops: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over each image's `crops` consecutive outputs."""
    if crops < 2:
        return output, target
    return output.unfold(0, crops, crops).mean(dim=2), target[::crops]
