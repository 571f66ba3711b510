"""The network to train, as the settings describe it."""
import logging
import pickle
import re
from contextlib import nullcontext
from typing import Any

import torch
from safetensors import SafetensorError
from timm.layers import convert_splitbn_model, convert_sync_batchnorm, set_fast_norm
from timm.models import create_model, get_pretrained_cfg
from torch import nn

from ...cli import flag
from ...files import check_whole
from ...mismatch import describe_mismatch, does_not_fit, rejecting_other_models
from ...models.creation import current_name, model_arguments
from ...regularizers import REGULARIZERS, complete_settings, in_order
from ..arguments.regularizers import RegularizerSettings
from ..arguments.settings import TrainSettings
from ..processes import Precision, Process

_logger = logging.getLogger(__name__)

CHANNELS_IN_LAYOUT = 8  # strided 1x1 convolutions of other numbers crash in the channels-last layout on the CPU
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
        with rejecting_other_models() if args.pretrained_path else nullcontext():
            try:
                network = create(args.model, **common, **model_arguments(args))
            except RuntimeError as error:
                common['pretrained_cfg_overlay'] = _with_saved_channels(overlay, args.model, error)
                network = create(args.model, **common, **model_arguments(args))
    except UNBUILDABLE as error:
        given = 'initial_checkpoint' if args.initial_checkpoint else 'pretrained_path'
        if getattr(args, given) and does_not_fit(error):
            raise ValueError(_unfitting(args, given, error)) from error
        reason = str(error).replace(
            'Use `pretrained=False` for random init.', 'Leave out --pretrained, or name a file with --pretrained-path.')
        raise ValueError(f'--model {args.model} cannot be built: {reason}') from error
    _initialise_head(network, args.head_init_scale, args.head_init_bias)
    _regularize(network, args)
    _logger.info(f'{args.model}: {sum(p.numel() for p in network.parameters()):,} parameters.')
    return network


def _with_saved_channels(overlay: dict, name: str, error: RuntimeError) -> dict:
    """Return changes to the pretrained configuration that tell timm the channels of a file of weights.

    timm adapts the first layer to the channels of the model, but assumes that the file has those of the configuration.

    Raises:
        RuntimeError: The error is another one, or the channels were given.
    """
    shape = re.search(r'weight shape \(\d+, (\d+), \d+, \d+\) is inconsistent', str(error))
    cfg = get_pretrained_cfg(current_name(name).removeprefix('gradaug_'))
    if shape is None or 'file' not in overlay or 'input_size' in overlay or cfg is None:
        raise error
    return {**overlay, 'input_size': (int(shape[1]), *cfg.input_size[1:])}


def _unfitting(args: TrainSettings, given: str, error: Exception) -> str:
    """Return why the initial weights do not fit, and which flag adapts them."""
    path, reason = getattr(args, given), describe_mismatch(error)
    adapted = given == 'initial_checkpoint' and 'another model' not in reason and ' in the model' not in reason
    hint = f'; use --pretrained --pretrained-path {path}, which adapts classes and channels' if adapted else ''
    return f'{flag(given)} {path} does not fit --model {args.model}: {reason}{hint}'


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
    """Return all settings of each regulariser that is on, by the name of the regulariser.

    A flag `--NAME` gives the first setting of a regulariser, and `--NAME-SETTING` gives another one. `args.regularizer`
    maps the names of regularisers without flags to their settings.

    Raises:
        ValueError: A regulariser or a setting is unknown.
    """
    flags = vars(args)
    given = dict(flags.get('regularizer') or {})
    for name, regularizer in REGULARIZERS.items():
        if regularizer.has_flags and flags[name] is not None:
            first, *others = (each.name for each in regularizer.parameters)
            given[name] = {first: flags[name], **{other: flags[f'{name}_{other}'] for other in others}}
    return {name: complete_settings(name, settings) for name, settings in given.items()}


def regularizer_flag(name: str) -> str:
    """Return the flag that turns a regulariser on."""
    return flag(name) if REGULARIZERS.find(name).has_flags else f'--regularizer {name}'


def drop_block_rises(args: RegularizerSettings) -> bool:
    """Return whether the rate of DropBlock rises from 0."""
    return args.paper_drop_block is not None and args.paper_drop_block_schedule != 'constant'


def _regularize(network: nn.Module, args: TrainSettings) -> None:
    settings = regularizer_settings(args)
    for name in in_order(settings):
        try:
            REGULARIZERS[name].add(network, **settings[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f'{regularizer_flag(name)} does not support --model {args.model}: {error}') from error


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
    if scale is None and bias is None:
        return
    found = network.get_classifier()
    for head in found if isinstance(found, (tuple, list, nn.ModuleList)) else [found]:
        layers = [layer for layer in head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
        if not layers:
            raise ValueError('--head-init-scale and --head-init-bias need a classifier; the model has none')
        if scale is not None:
            layers[-1].weight.mul_(scale)
        if layers[-1].bias is None:
            if bias is not None:
                raise ValueError('--head-init-bias needs a classifier with a bias; that of the model has none')
            continue
        if scale is not None:
            layers[-1].bias.mul_(scale)
        if bias is not None:
            nn.init.constant_(layers[-1].bias, bias)


def place_network(network: nn.Module, args: TrainSettings, process: Process, precision: Precision) -> nn.Module:
    """Move a network to the device, convert its precision, layout and norm layers, and return it.

    Raises:
        ValueError: The device does not support synchronized norm layers, or torch crashes in the layout.
    """
    if args.channels_last and process.device.type == 'cpu':
        _check_channels_last(network)
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


def _check_channels_last(network: nn.Module) -> None:
    """Raise an error if the network has a convolution in whose backward pass torch crashes on the CPU.

    Seen with torch 2.14 and 2.15: strided 1x1 convolutions write outside of their memory if the number of input
    channels is not a multiple of 8. One channel, and groups of channels, are safe.

    Raises:
        ValueError: The network has such a convolution.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) == 1 and max(layer.stride) > 1:
            channels = layer.in_channels
            if layer.groups == 1 < channels and channels % CHANNELS_IN_LAYOUT:
                raise ValueError(
                    f'--channels-last on the CPU does not support {name}, a strided 1x1 convolution of {channels} '
                    f'channels: torch crashes there if the number of channels is not a multiple of '
                    f'{CHANNELS_IN_LAYOUT}; leave --channels-last out')
