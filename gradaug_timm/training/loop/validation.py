"""Validation of the full network."""
import logging

import torch
from timm.task import evaluation_sample_limit
from torch import nn

from ..run import Run

_logger = logging.getLogger(__name__)


@torch.inference_mode()
def evaluate(run: Run, network: nn.Module, *, title: str = 'Validation') -> dict[str, float]:
    """The metrics of the task on the validation split, over all processes."""
    args, loader = run.args, run.loaders.validation
    network.eval()
    evaluator = run.task.create_evaluator(max_samples=evaluation_sample_limit(loader))
    for images, target in run.bar.over(loader, len(loader), title):
        if not run.loaders.on_device:
            images = images.to(run.process.device, run.precision.model_dtype)
            target = target.to(run.process.device)
        if args.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with run.precision.autocast():
            output = network(images)
        output = output[0] if isinstance(output, (tuple, list)) else output
        evaluator.update(*_average_crops(output, target, args.tta))
    metrics = evaluator.compute(distributed=run.process.distributed)
    if run.process.primary:
        _logger.info(f'{title}:  ' + '  '.join(f'{name}: {value:.4g}' for name, value in metrics.items()))
    return dict(metrics)


def _average_crops(output: torch.Tensor, target: torch.Tensor, crops: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over each image's `crops` consecutive outputs."""
    if crops < 2:
        return output, target
    return output.unfold(0, crops, crops).mean(dim=2), target[::crops]
