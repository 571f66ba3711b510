"""One evaluation: network, data, loop, results."""
import copy
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from timm.layers import set_fast_norm
from timm.utils import random_seed

from ..confusion import ConfusionCounts, check_confusion, with_suffix, write_confusion
from ..data import ReadRows, check_labels, class_names, report_left_out
from ..devices import pick_device
from ..task.compile_limit import Compilation, most_alike
from .as_trained import open_as_trained, with_data_of_run
from .candidate import Candidate
from .checks import resolve
from .classes import match_classes
from .loading import evaluation_loader, open_split, training_batches
from .metrics import Metrics, read_valid_labels
from .settings import EvaluationSettings
from .subnets import choose_subnets, subnetworks
from .trained import Trained

_logger = logging.getLogger(__name__)


def validate(args: EvaluationSettings, given: Trained | None = None) -> dict | list[dict]:
    """Evaluate one network.

    Args:
        args: The settings.
        given: The network; None opens the one that the settings name.

    Returns:
        The results by name; with several widths, the results of each.

    Raises:
        ValueError: What the settings name does not exist or does not fit; the message is one line.
        CompilationError: torch.compile needs more graphs than there are networks and shapes.
    """
    device = pick_device(args.device)
    dtype = getattr(torch, args.model_dtype or 'float32')
    autocast = partial(torch.autocast, device.type, getattr(torch, args.amp_dtype)) if args.amp else nullcontext
    _use_fast_kernels(args)
    random_seed(args.seed)

    trained = open_as_trained(args) if given is None else replace(given, network=copy.deepcopy(given.network))
    args = resolve(replace(
        with_data_of_run(args, trained), model=trained.name, in_chans=trained.config['input_size'][0]))
    random_seed(args.seed)  # so that what is drawn below does not depend on how the network was opened
    trained.network.to(device)
    num_classes = args.num_classes or trained.network.num_classes
    valid_labels = read_valid_labels(args.valid_labels, num_classes) if args.valid_labels else None
    config, scaling = dict(trained.config), trained.scaling  # pooling at test time changes the crop
    dataset = open_split(args, args.split, config, num_classes=num_classes)
    match_classes(trained, dataset, args, args.split, valid_labels=valid_labels)
    check_labels(dataset, len(valid_labels) if valid_labels else num_classes)
    names: Sequence[str] | None = trained.class_names or class_names(dataset)
    classes = num_classes
    if valid_labels:
        names, classes = _names_of(valid_labels, names), len(valid_labels)
    check_confusion(args.confusion_matrix, classes)
    metrics = [
        Metrics(args, dataset, device=device, valid_labels=valid_labels,
                confusion=ConfusionCounts(classes, device) if args.confusion_matrix else None)
        for _ in args.width or [1]
    ]
    networks: dict = {None: trained.network}
    if args.width is not None:
        batches = training_batches(args, trained, config, num_classes=num_classes, device=device)
        subnets = choose_subnets(trained, args.width, args.divisor)
        networks = subnetworks(trained, subnets, batches if args.recalibration_batches else None, autocast=autocast)
    del trained  # sub-networks are separate networks
    candidates = [
        Candidate.of(*pair, measured, args, config, device=device, dtype=dtype)
        for pair, measured in zip(networks.items(), metrics)
    ]

    loader = evaluation_loader(args, dataset, config, device=device, dtype=dtype)
    compilation = None
    if args.torchcompile:  # two graphs a network: of whole batches and of the last one
        alike = max(most_alike(candidate.network) for candidate in candidates)
        compilation = Compilation(2 * len(candidates), alike)
    with compilation.guarded() if compilation is not None else nullcontext():
        run_epoch(candidates, loader, args, device=device, dtype=dtype, autocast=autocast)
    if compilation is not None:
        compilation.report('in all')
    results = [candidate.results(scaling, args, config) for candidate in candidates]
    _write_confusion(args, candidates, names)
    return results if len(results) > 1 else results[0]


@torch.inference_mode()
def run_epoch(
        candidates: Sequence[Candidate],
        loader,
        args: EvaluationSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
        autocast: Callable[[], AbstractContextManager],
) -> None:
    """Feed every batch to each network, and its output to the network's metrics."""
    memory_format = torch.channels_last if args.channels_last else torch.preserve_format
    start, images, rows = time.perf_counter(), 0, ReadRows(loader)
    for index, (input, target) in enumerate(loader):
        input = input.to(device=device, dtype=dtype, memory_format=memory_format)
        target = target.to(device)
        kept = rows.mask(target)
        for candidate in candidates:
            with autocast():
                output = candidate.network(input)
            candidate.metrics.update(output, target, kept)
        images += len(input)
        if index % args.log_freq == 0:
            rate = images / (time.perf_counter() - start)
            totals = '  '.join(f'{candidate.title}{candidate.metrics.summary()}' for candidate in candidates)
            _logger.info(f'Test: [{index:>4d}/{len(loader)}]  {rate:.1f} images/s  {totals}')
    if not rows.kept:
        raise ValueError(f'--split {args.split} has no image that can be read')
    report_left_out(rows.left_out(), f'Split {args.split}')


def _names_of(labels: list[int], names: Sequence[str] | None) -> list[str] | None:
    """Return the names of the outputs that count; None if some are unknown."""
    return [names[label] for label in labels] if names is not None and max(labels) < len(names) else None


def _write_confusion(args: EvaluationSettings, candidates: Sequence[Candidate], names: Sequence[str] | None) -> None:
    for candidate in candidates:
        counts, path = candidate.metrics.confusion, args.confusion_matrix
        if counts is None or path is None:
            continue
        if len(candidates) > 1 and candidate.subnet is not None:
            path = with_suffix(path, f'{candidate.subnet.width:g}')
        _logger.info(f'Confusion matrix: {", ".join(write_confusion(counts.compute(), names, path))}')


def _use_fast_kernels(args: EvaluationSettings) -> None:
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    if args.fast_norm:
        set_fast_norm()
