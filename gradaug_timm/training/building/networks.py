"""The network to train, as the settings describe it."""
import logging
import pickle
from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError
from timm.layers import convert_splitbn_model, convert_sync_batchnorm, set_fast_norm
from timm.models import create_model
from torch import nn

from ...cli import flag
from ...files import check_whole
from ...models.creation import model_arguments
from ...regularizers import add_drop_block, add_shake_drop, add_stochastic_depth
from ..arguments.regularizers import RegularizerSettings
from ..arguments.settings import TrainSettings
from ..processes import Precision, Process

_logger = logging.getLogger(__name__)

UNBUILDABLE = (
    AssertionError, EOFError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError, SafetensorError)


def build_network(args: TrainSettings) -> nn.Module:
    """Build the network on the CPU, with random or the requested weights.

    Raises:
        ValueError: timm cannot build the network, or the network does not support a regulariser.
    """
    _check_weights(args)
    if args.fast_norm:
        set_fast_norm()
    overlay = dict(args.pretrained_cfg_overlay)
    if args.pretrained_path:
        overlay.update(file=args.pretrained_path, num_classes=-1)
    common: dict[str, Any] = dict(
        pretrained=args.pretrained,
        pretrained_cfg_overlay=overlay or None,
        checkpoint_path=args.initial_checkpoint,
        in_chans=args.input_size[0] if args.input_size and args.in_chans is None else args.in_chans or 3,
        num_classes=args.num_classes,
        drop_rate=args.drop,
        drop_path_rate=args.drop_path,
        drop_block_rate=args.drop_block,
        global_pool=args.gp,
        bn_momentum=args.bn_momentum,
        bn_eps=args.bn_eps,
    )
    try:
        create = _create_of_any_size if args.gradaug else create_model
        network = create(args.model, **common, **model_arguments(args))
    except UNBUILDABLE as error:
        raise ValueError(f'--model {args.model} cannot be built: {error}') from error
    _initialise_head(network, args.head_init_scale, args.head_init_bias)
    _regularize(network, args)
    _logger.info(f'{args.model}: {sum(p.numel() for p in network.parameters()):,} parameters.')
    return network


def _check_weights(args: TrainSettings) -> None:
    for name in ('initial_checkpoint', 'pretrained_path', 'kd_checkpoint'):
        path = getattr(args, name)
        try:
            if path:
                check_whole(path)
        except ValueError as error:
            raise ValueError(f'{flag(name)} {path} cannot be read: {error}') from error


def _create_of_any_size(name: str, **kwargs) -> nn.Module:
    """Create a network of timm, with position embeddings for images of any size if timm supports that."""
    random_state = torch.get_rng_state()
    network = create_model(name, **kwargs)
    if 'dynamic_img_size' in kwargs or getattr(network, 'dynamic_img_size', True):
        return network
    torch.set_rng_state(random_state)
    return create_model(name, dynamic_img_size=True, **kwargs)


def regularizer_settings(args: RegularizerSettings) -> dict[str, dict]:
    """Return the arguments of each regulariser that is on, by the name of its setting."""
    wanted: dict[str, dict] = {
        'shake_drop': dict(
            survival=args.shake_drop,
            alpha=tuple(args.shake_drop_alpha or (-1., 1.)),
            beta=tuple(args.shake_drop_beta or (0., 1.)),
            level=args.shake_drop_level or 'pixel',
        ),
        'stoch_depth': dict(survival=args.stoch_depth),
        'paper_drop_block': dict(rate=args.paper_drop_block, size=args.paper_drop_block_size or 7),
    }
    return {name: settings for name, settings in wanted.items() if getattr(args, name) is not None}


def drop_block_rises(args: RegularizerSettings) -> bool:
    """Return whether the rate of DropBlock rises from 0."""
    return args.paper_drop_block is not None and args.paper_drop_block_schedule != 'constant'


REGULARIZERS: dict[str, Callable[..., nn.Module]] = {
    'shake_drop': add_shake_drop,
    'stoch_depth': add_stochastic_depth,
    'paper_drop_block': add_drop_block,  # joins layers at the end of a residual branch
}


def _regularize(network: nn.Module, args: TrainSettings) -> None:
    for name, settings in regularizer_settings(args).items():
        try:
            REGULARIZERS[name](network, **settings)
        except ValueError as error:
            raise ValueError(f'{flag(name)} does not support --model {args.model}: {error}') from error


def enable_checkpointing(network: nn.Module, name: str) -> None:
    """Make a network recompute its activations in backward.

    Raises:
        ValueError: The network does not support it.
    """
    try:
        network.set_grad_checkpointing(enable=True)
    except (AssertionError, AttributeError) as error:
        raise ValueError(f'--grad-checkpointing does not support --model {name}') from error


@torch.no_grad()
def _initialise_head(network: nn.Module, scale: float | None, bias: float | None) -> None:
    if scale is not None:
        network.get_classifier().weight.mul_(scale)
        network.get_classifier().bias.mul_(scale)
    if bias is not None:
        nn.init.constant_(network.get_classifier().bias, bias)


def place_network(network: nn.Module, args: TrainSettings, process: Process, precision: Precision) -> nn.Module:
    """Move a network to the device, convert its precision, layout and norm layers, and return it.

    Raises:
        ValueError: The device does not support synchronized norm layers.
    """
    if args.split_bn:
        network = convert_splitbn_model(network, max(args.aug_splits, 2))
    network.to(device=process.device, dtype=precision.model_dtype)
    if args.channels_last:
        network.to(memory_format=torch.channels_last)
    if args.sync_bn and process.distributed:
        if process.device.type == 'cpu':
            raise ValueError('--sync-bn needs GPUs: torch\'s SyncBatchNorm does not support the CPU')
        network = convert_sync_batchnorm(network)
    return network
