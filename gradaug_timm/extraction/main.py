"""`python -m gradaug_timm.extract`: a sub-network of a checkpoint as a file of its own."""
import argparse
import logging
import os

from timm.utils import random_seed, setup_default_logging
from torch import nn

from ..elastic import Subnet, make_elastic, multiply_adds
from ..elastic.swap import is_batch_norm
from ..evaluation import recalibrate
from ..evaluation.loading import data_config, training_batches
from ..evaluation.network import create_network, pick_device, training_arguments
from ..evaluation.residuals import scale_branches
from ..evaluation.subnets import DEFAULT_DIVISOR
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
    trained = _trained(args.checkpoint)
    if not args.model and 'model' not in trained:
        raise ValueError(f'{args.checkpoint} doesn\'t tell which network it is of: give --model')
    args = as_for_validation(args, trained)
    random_seed(args.seed)
    device = pick_device(args.device)
    network = create_network(args)
    scale_branches(network, args)
    try:
        make_elastic(network)
    except ValueError as error:
        raise ValueError(f'--model {args.model} has no sub-networks: {error}') from error
    subnet = Subnet(args.width, args.divisor or trained.get('gradaug_divisor') or DEFAULT_DIVISOR, args.skip_blocks)
    config = data_config(args, network)
    full = multiply_adds(network, None, config['input_size'])
    _recalibrate(network.to(device), subnet, args, config)
    dense = save_extracted(network, subnet, args.output, model_kwargs=_model_kwargs(args), data=config)
    cost = multiply_adds(dense, None, config['input_size'])
    parameters = sum(parameter.numel() for parameter in dense.parameters())
    return (f'{args.output}: {args.model} at width {subnet.width:g} with divisor {subnet.divisor}, '
            f'{parameters / 1e6:.2f} million parameters, {cost / 1e6:.1f} million multiply-adds '
            f'({cost / full:.1%} of the full network\'s)')


def _trained(path: str) -> dict:
    if not os.path.isfile(path):
        raise ValueError(f'{path} is no file')
    try:
        return training_arguments(path)
    except Exception as error:  # what a damaged file makes the unpickler raise has no common class
        raise ValueError(f'{path} can\'t be read: {str(error) or type(error).__name__}') from error


def _recalibrate(network: nn.Module, subnet: Subnet, args: argparse.Namespace, config: dict) -> None:
    if subnet == Subnet(divisor=subnet.divisor) or not any(map(is_batch_norm, network.modules())):
        return
    if args.data_dir is None:
        _logger.warning('BatchNorm keeps its part of the full network\'s statistics, which makes sub-networks worse: '
                        'give --data-dir to measure their own on training images.')
        return
    device = next(network.parameters()).device
    batches = training_batches(args, config, num_classes=network.num_classes, device=device)
    recalibrate(network, subnet, batches)
    _logger.info(f'BatchNorm has statistics of {args.recalibration_batches} batches of training images.')


def _model_kwargs(args: argparse.Namespace) -> dict:
    """The arguments of `timm.create_model` that made the network, but for its name and number of classes."""
    channels = args.in_chans or (args.input_size[0] if args.input_size else 3)
    pool = {} if args.gp is None else {'global_pool': args.gp}
    return {**args.model_kwargs, **pool, **({} if channels == 3 else {'in_chans': channels})}
