"""`python -m gradaug_timm.extract`: a sub-network of a checkpoint as a file of its own."""
import argparse
import logging
import os
from dataclasses import replace

from timm.utils import random_seed, setup_default_logging
from torch import nn

from ..devices import pick_device
from ..elastic import Subnet, multiply_adds, num_blocks
from ..elastic.swap import is_batch_norm
from ..evaluation import recalibrate
from ..evaluation.loading import data_config, training_batches
from ..evaluation.network import create_network
from ..evaluation.residuals import scale_branches
from ..evaluation.subnets import choose_subnets
from .arguments import as_for_validation, build_parser
from .saving import save_extracted

_logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None):
    """Runs the command; SystemExit(2) with one line on stderr where it can't be carried out."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not logging.root.handlers:
        setup_default_logging()
    if os.path.exists(args.output) and not args.overwrite:
        parser.error(f'--output {args.output} is there already, replace it by --overwrite')
    try:
        print(run(args))
    except (OSError, ValueError) as error:
        parser.error(str(error))


def run(args: argparse.Namespace) -> str:
    """Extracts and writes the sub-network; returns a line that says what it is.

    Raises:
        ValueError: Something the arguments name isn't there or doesn't fit; the message is one line.
    """
    has_images = args.data_dir is not None or args.dataset is not None
    args = as_for_validation(args, widths=[args.width])
    random_seed(args.seed)
    device = pick_device(args.device)
    network = create_network(args)
    scale_branches(network, args)
    config = data_config(args, network)
    subnet = _choose_subnet(network, args, config)
    full = multiply_adds(network, None, config['input_size'])
    if subnet != Subnet(divisor=subnet.divisor) and any(map(is_batch_norm, network.modules())):
        _set_statistics(network.to(device), subnet, args, config, has_images=has_images)
    dense = save_extracted(network, subnet, args.output, data=config)
    cost = multiply_adds(dense, None, config['input_size'])
    parameters = sum(parameter.numel() for parameter in dense.parameters())
    return (f'{args.output}: {args.model} at width {subnet.width:g} with divisor {subnet.divisor}, '
            f'{parameters / 1e6:.2f} million parameters, {cost / 1e6:.1f} million multiply-adds '
            f'({cost / full:.1%} of the full network\'s)')


def _choose_subnet(network: nn.Module, args: argparse.Namespace, config: dict) -> Subnet:
    """The sub-network that the arguments name; makes the network elastic."""
    subnet, = choose_subnets(network, args, config)
    count = num_blocks(network)
    wrong = [index for index in args.skip_blocks if index >= count]
    if wrong:
        raise ValueError(f'--skip-blocks {" ".join(map(str, wrong))} can\'t be used with --model {args.model}, '
                         f'which has {count} blocks that can be left out, counted from 0')
    return replace(subnet, skipped=args.skip_blocks)


def _set_statistics(
        network: nn.Module,
        subnet: Subnet,
        args: argparse.Namespace,
        config: dict,
        *,
        has_images: bool,
) -> None:
    """Gives the sub-network BatchNorm statistics of training images, where there are some."""
    if not has_images:
        _logger.warning('BatchNorm keeps its part of the full network\'s statistics, which makes sub-networks worse: '
                        'give --data-dir or --dataset to measure their own on training images.')
        return
    device = next(network.parameters()).device
    batches = training_batches(args, config, num_classes=network.num_classes, device=device)
    recalibrate(network, subnet, batches)
    _logger.info(f'BatchNorm has statistics of {args.recalibration_batches} batches of training images.')
