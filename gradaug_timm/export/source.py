"""What is exported: a network as validate.py evaluates it, and how it was trained."""
import argparse
import json
import os
from dataclasses import asdict, dataclass, field

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ..cli import one_line
from ..evaluation.loading import data_config
from ..evaluation.network import create_network
from ..evaluation.residuals import scale_branches
from ..extraction import load_extracted
from ..extraction.arguments import as_for_validation
from ..extraction.description import DATA, KEY
from ..files import read_checkpoint
from ..task.settings import GradAugSettings
from ..training.arguments import given_settings
from ..training.arguments.gradaug import SubnetSettings
from ..training.checkpoints.weights import recipe
from .comparison import fixed_batch

# what is read of safetensors' metadata, which others may have written
KINDS: dict[str, type | tuple[type, ...]] = dict(recipe=dict, gradaug=dict, metric=(int, float), epoch=int)


@dataclass(frozen=True)
class Source:
    """A trained network.

    Args:
        network: It, on the CPU and in evaluation mode.
        config: How images are shown to it, by the names in DATA.
        scaling: How its residual branches are scaled in evaluation, by flag; empty where they aren't.
        training: What is known of its training; see `_told`.
    """
    network: nn.Module
    config: dict
    scaling: dict[str, float] = field(default_factory=dict)
    training: dict = field(default_factory=dict)


def open_source(args: argparse.Namespace) -> Source:
    """The network of the checkpoint that the arguments name.

    Raises:
        ValueError: There is none, or it can't be opened.
    """
    if is_extracted(args.checkpoint):
        network = load_extracted(args.checkpoint)
        return Source(network, {name: network.pretrained_cfg.get(name) for name in DATA})
    args = as_for_validation(args, widths=None)
    network = create_network(args)
    scaling = scale_branches(network, args)
    config = data_config(args, network)
    _check_runs(network, args.checkpoint, config['input_size'])
    return Source(network, {name: config[name] for name in DATA}, scaling, _told(args, config))


@torch.no_grad()
def _check_runs(network: nn.Module, path: str, input_size: tuple[int, int, int]) -> None:
    try:
        network.eval()(fixed_batch(input_size))
    except (AssertionError, RuntimeError) as error:
        size = 'x'.join(map(str, input_size))
        raise ValueError(f'{path}: the network fails on images of {size}: {one_line(error, None)}') from error


def is_extracted(path: str) -> bool:
    """Whether a file is one of `gradaug_timm.extract`."""
    return KEY in _metadata(path)


def _metadata(path: str) -> dict[str, str]:
    if not path.endswith('.safetensors') or not os.path.isfile(path):
        return {}
    try:
        with safe_open(path, 'pt') as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):  # whoever opens it says so
        return {}


def _told(args: argparse.Namespace, config: dict) -> dict:
    """What the checkpoint tells: 'recipe' and 'gradaug' by name, 'metric', 'epoch', whether weights are 'averaged'."""
    metadata = _metadata(args.checkpoint)
    if metadata:
        told = {name: _read(metadata.get(name, '')) for name in KINDS}
        told = {name: value for name, value in told.items() if isinstance(value, KINDS[name])}
        return {**told, 'averaged': metadata.get('weights') == 'averaged'}
    state = {} if args.checkpoint.endswith('.npz') else read_checkpoint(args.checkpoint, checked=False)
    flags = state.get('args')
    if not isinstance(flags, argparse.Namespace):
        return {}
    given = given_settings(SubnetSettings.of(vars(flags)))
    transforms = given.pop('transforms', {})  # they may be registered where the network was trained alone
    on, side = getattr(flags, 'gradaug', None), max(config['input_size'][1:])
    return {
        'recipe': recipe(vars(flags)),
        'gradaug': {**asdict(GradAugSettings.preset(side, **given)), 'transforms': transforms} if on else None,
        'metric': state.get('metric'),
        'epoch': state.get('epoch'),
        'averaged': args.use_ema and 'state_dict_ema' in state,
    }


def _read(text: str):
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return None
