"""Validation of the full network."""
import logging

import torch
import torch.distributed as dist
from timm.task import evaluation_sample_limit
from torch import nn

from ...cli import one_line
from ...confusion import ConfusionCounts, in_folder, write_confusion
from ...data import ReadRows, report_left_out
from ..arguments.settings import TrainSettings
from ..run import Run
from .between_steps import DataError

_logger = logging.getLogger(__name__)


@torch.inference_mode()
def evaluate(run: Run, network: nn.Module, *, title: str = 'Validation') -> dict[str, float]:
    """Return the metrics of the task on the validation split, over all processes."""
    args, loader = run.args, run.loaders.validation
    network.eval()
    rows = ReadRows(loader, evaluation_sample_limit(loader))
    evaluator, confusion = run.task.create_evaluator(), _confusion_counts(run)
    for images, target in run.bar.over(loader, len(loader), title):
        if not run.loaders.on_device:
            images = images.to(run.process.device, run.precision.model_dtype)
            target = target.to(run.process.device)
        if args.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with run.precision.autocast():
            output = network(images)
        output = output[0] if isinstance(output, (tuple, list)) else output
        output, target = _average_crops(output, target, args.tta)
        kept = rows.mask(target)
        if kept is not None:
            output, target = output[kept], target[kept]
        evaluator.update(output, target)
        if confusion is not None:
            confusion.update(output, target)
    read, left_out = _over_processes(run, rows.kept, rows.left_out())
    if not read:
        raise DataError('the validation split has no image that can be read')
    metrics = evaluator.compute(distributed=run.process.distributed)
    if confusion is not None:
        _write_confusion(run, confusion.compute(distributed=run.process.distributed))
    if run.process.primary:
        report_left_out(left_out, title)
    if run.process.primary:
        _logger.info(f'{title}:  ' + '  '.join(f'{name}: {value:.4g}' for name, value in metrics.items()))
    return dict(metrics)


def _average_crops(output: torch.Tensor, target: torch.Tensor, crops: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean output over the `crops` consecutive crops of each image."""
    if crops < 2:
        return output, target
    return output.unfold(0, crops, crops).mean(dim=2), target[::crops]


def _confusion_counts(run: Run) -> ConfusionCounts | None:
    """Return empty counts of true and predicted classes if the settings ask for a confusion matrix."""
    args = run.args
    if not isinstance(args, TrainSettings) or args.confusion_matrix is None or args.num_classes is None:
        return None
    return ConfusionCounts(args.num_classes, run.process.device)


def _write_confusion(run: Run, counts: torch.Tensor) -> None:
    """Write the matrix of the last validation; where that fails, the run goes on and a warning says why."""
    if run.folder is None:
        return
    path = in_folder(run.args.confusion_matrix, run.folder.path)  # type: ignore[attr-defined]  # of TrainSettings
    try:
        write_confusion(counts, run.loaders.class_names, path)
    except Exception as error:  # what matplotlib may raise has no common class
        _logger.warning(f'--confusion-matrix {path} is not written: {one_line(error, None)}')


def _over_processes(run: Run, *counts: int) -> tuple[int, ...]:
    """Return the sums of counts over all processes."""
    if not run.process.distributed:
        return counts
    sums = torch.tensor(counts, device=run.process.device)
    dist.all_reduce(sums)
    return tuple(sums.tolist())
