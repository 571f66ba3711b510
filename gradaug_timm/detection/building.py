"""The detector that the flags describe."""
import argparse

from timm.data import resolve_model_data_config
from timm.models import create_model, load_state_dict
from torch import nn

from ..files import check_whole
from .detectors import create_detector
from .freezing import freeze
from .pyramid import PyramidBackbone, create_backbone

SHOWN = 3  # keys in an error


def build_detector(args: argparse.Namespace, *, with_weights: bool = True) -> nn.Module:
    """The detector on the CPU.

    Args:
        args: The flags; `num_classes` is filled in.
        with_weights: Begin with the weights that they name.

    Raises:
        ValueError: Network, weights or arguments don't fit.
    """
    backbone = _build_backbone(args, with_weights)
    body = backbone.pyramid.body
    freeze(body, args.freeze_stages)
    config = resolve_model_data_config(body)
    try:
        return create_detector(
            args.detector,
            backbone,
            args.num_classes,
            min_size=tuple(args.min_size),
            max_size=args.max_size,
            image_mean=list(config['mean']),
            image_std=list(config['std']),
            **args.detector_kwargs,
        )
    except TypeError as error:
        raise ValueError(f'--detector-kwargs {args.detector_kwargs} don\'t fit: {error}') from error


def _build_backbone(args: argparse.Namespace, with_weights: bool) -> PyramidBackbone:
    kwargs = dict(args.model_kwargs)
    if with_weights and args.checkpoint:
        kwargs.update(pretrained=True, pretrained_cfg_overlay={'state_dict': _classifier(args), 'num_classes': -1})
    elif with_weights:
        kwargs['pretrained'] = args.pretrained
    return create_backbone(args.model, channels=args.pyramid_channels, **kwargs)


def _classifier(args: argparse.Namespace) -> dict:
    """The weights of a classification checkpoint, which must have all that the network has, in its shapes."""
    try:
        check_whole(args.checkpoint)
        state = load_state_dict(args.checkpoint)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f'--checkpoint {args.checkpoint} can\'t be read: {error}') from error
    network = create_model(args.model, num_classes=0, **args.model_kwargs)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    missing = [name for name, shape in wanted.items() if name not in state or tuple(state[name].shape) != shape]
    if missing:
        raise ValueError(
            f'--checkpoint {args.checkpoint} isn\'t one of --model {args.model}: {len(missing)} of {len(wanted)} weights '
            f'are missing or of another shape ({", ".join(missing[:SHOWN])})')
    return state
