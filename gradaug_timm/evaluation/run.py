"""One evaluation: network, data, loop, results."""
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from timm.layers import apply_test_time_pool, set_fast_norm
from timm.models import reparameterize_model
from timm.utils import random_seed
from torch import nn

from ..data import check_labels
from ..elastic import Subnet, extract, make_elastic, multiply_adds
from .loading import data_config, evaluation_loader, open_split, training_batches
from .metrics import Metrics, read_valid_labels
from .network import create_network, pick_device, training_arguments
from .recalibration import recalibrate
from .residuals import scale_branches

_logger = logging.getLogger(__name__)
DEFAULT_DIVISOR = 8


def validate(args) -> dict:
    """Evaluates what the arguments of validate.py say; the results by name.

    Raises:
        ValueError: Something the arguments name isn't there or doesn't fit; the message is one line.
    """
    device = pick_device(args.device)
    dtype = getattr(torch, args.model_dtype or 'float32')
    autocast = partial(torch.autocast, device.type, getattr(torch, args.amp_dtype)) if args.amp else nullcontext
    _use_fast_kernels(args)
    random_seed(args.seed)

    model = create_network(args)
    scaling = scale_branches(model, args)
    model.to(device)
    num_classes = args.num_classes or model.num_classes
    valid_labels = read_valid_labels(args.valid_labels, num_classes) if args.valid_labels else None
    config = data_config(args, model)
    dataset = open_split(args, args.split, config, num_classes=num_classes)
    check_labels(dataset, len(valid_labels) if valid_labels else num_classes)
    metrics = Metrics(args, dataset, device=device, valid_labels=valid_labels)
    if args.width is not None:
        args.divisor = args.divisor or training_arguments(args.checkpoint).get('gradaug_divisor') or DEFAULT_DIVISOR
        batches = training_batches(args, config, num_classes=num_classes, device=device)
        model = subnetwork(model, args, config, batches, autocast=autocast)
    if args.reparam:
        model = reparameterize_model(model)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    _logger.info(f'{args.model}: {num_parameters / 1e6:.2f} million parameters, on {device} in {dtype}'
                 f'{f", mixed with {args.amp_dtype}" if args.amp else ""}')
    if args.test_pool:
        model, pooled = apply_test_time_pool(model, config)
        config['crop_pct'] = 1.0 if pooled else config['crop_pct']

    loader = evaluation_loader(args, dataset, config, device=device, dtype=dtype)
    model = _prepare(model, args, device, dtype)
    run_epoch(model, loader, metrics, args, device=device, dtype=dtype, autocast=autocast)
    subnet = {} if args.width is None else dict(width=args.width, divisor=args.divisor)
    measured = metrics.compute()
    _logger.info(' * ' + '  '.join(f'{name} {value:.3f}' for name, value in measured.items() if '_err' not in name))
    return dict(
        model=args.model,
        **subnet,
        **scaling,
        **measured,
        param_count=round(num_parameters / 1e6, 2),
        img_size=config['input_size'][-1],
        crop_pct=config['crop_pct'],
        interpolation=config['interpolation'],
    )


def subnetwork(
        model: nn.Module,
        args,
        config: dict,
        batches: Iterable[torch.Tensor],
        *,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> nn.Module:
    """The dense network of `--width`, with BatchNorm statistics from the batches; the whole one at width 1.

    Raises:
        ValueError: The model can't run as sub-networks.
    """
    try:
        make_elastic(model)
    except ValueError as error:
        raise ValueError(f'--width can\'t be used with --model {args.model}: {error}') from error
    subnet = Subnet(args.width, args.divisor)
    cost = multiply_adds(model, subnet, config['input_size']) / multiply_adds(model, Subnet(), config['input_size'])
    if args.width < 1 and cost == 1:
        raise ValueError(f'--divisor {args.divisor} is too large for --width {args.width} of --model {args.model}: '
                         'every layer would keep all of its channels')
    _logger.info(f'{subnet} takes {cost:.1%} of the multiply-adds of the full network.')
    if args.width < 1 and args.recalibration_batches:
        with autocast():
            recalibrate(model, subnet, batches)
    return extract(model, subnet)


@torch.inference_mode()
def run_epoch(
        model: nn.Module,
        loader,
        metrics: Metrics,
        args,
        *,
        device: torch.device,
        dtype: torch.dtype,
        autocast: Callable[[], AbstractContextManager],
) -> None:
    """Feeds every batch to the model and its output to the metrics."""
    model.eval()
    memory_format = torch.channels_last if args.channels_last else torch.preserve_format
    start, images = time.perf_counter(), 0
    for index, (input, target) in enumerate(loader):
        input = input.to(device=device, dtype=dtype, memory_format=memory_format)
        with autocast():
            output = model(input)
        metrics.update(output, target.to(device))
        images += len(input)
        if index % args.log_freq == 0:
            rate = images / (time.perf_counter() - start)
            _logger.info(f'Test: [{index:>4d}/{len(loader)}]  {rate:.1f} images/s  {metrics.summary()}')


def _use_fast_kernels(args) -> None:
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    if args.fast_norm:
        set_fast_norm()


def _prepare(model: nn.Module, args, device: torch.device, dtype: torch.dtype) -> nn.Module:
    model = model.to(device=device, dtype=dtype)
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if args.torchcompile:
        model = torch.compile(model, backend=args.torchcompile, mode=args.torchcompile_mode)
    if args.num_gpu > 1:
        if device.type != 'cuda' or args.num_gpu > torch.cuda.device_count():
            raise ValueError(f'--num-gpu {args.num_gpu} needs as many CUDA devices, there are '
                             f'{torch.cuda.device_count()} and --device is {device}')
        model = nn.DataParallel(model, device_ids=list(range(args.num_gpu)))
    return model
