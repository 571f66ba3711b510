"""The detector that the settings describe."""
import inspect

from timm.data import resolve_model_data_config
from timm.models import create_model, load_state_dict
from torch import nn
from torchvision.models.detection import FasterRCNN

from ..files import check_whole
from ..hints import nearest
from .arguments import DetectionSettings
from .detectors import create_detector
from .freezing import freeze
from .pyramid import PyramidBackbone, create_backbone

SHOWN = 3  # keys in an error


def build_detector(args: DetectionSettings, *, with_weights: bool = True) -> nn.Module:
    """Build the detector, on the CPU.

    Args:
        args: The settings; `num_classes` is filled in.
        with_weights: Load the weights that the settings name.

    Raises:
        ValueError: Network, weights or arguments do not fit.
    """
    _check_kwargs(args.detector_kwargs)
    backbone = _build_backbone(args, with_weights)
    body = backbone.pyramid.body
    freeze(body, args.freeze_stages)
    config = resolve_model_data_config(body)
    return create_detector(
        args.detector,
        backbone,
        args.num_classes,
        anchor_sizes=args.anchor_sizes,
        min_size=tuple(args.min_size),
        max_size=args.max_size,
        image_mean=list(config['mean']),
        image_std=list(config['std']),
        **args.detector_kwargs,
    )


def _check_kwargs(given: dict) -> None:
    """Check the names, of which torchvision ignores those that it does not know."""
    parameters = inspect.signature(FasterRCNN.__init__).parameters.values()
    numbers = [each.name for each in parameters if isinstance(each.default, (int, float))]
    for name, value in given.items():
        if name not in numbers or not isinstance(value, (int, float)):
            close = nearest(name, numbers)
            hint = f', did you mean {close}?' if close and close != name else ''
            raise ValueError(f'--detector-kwargs {name}={value} must be a number by one of the names '
                             f'{", ".join(numbers)}{hint}')


def _build_backbone(args: DetectionSettings, with_weights: bool) -> PyramidBackbone:
    kwargs = dict(args.model_kwargs)
    if with_weights and args.checkpoint:
        kwargs.update(pretrained=True, pretrained_cfg_overlay={'state_dict': _classifier(args), 'num_classes': -1})
    elif with_weights:
        kwargs['pretrained'] = args.pretrained
    return create_backbone(args.model, channels=args.pyramid_channels, **kwargs)


def _classifier(args: DetectionSettings) -> dict:
    """Read the weights of a classifier, which must include all weights of the network, in their shapes."""
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
            f'--checkpoint {args.checkpoint} does not fit --model {args.model}: {len(missing)} of {len(wanted)} '
            f'weights are missing or have another shape ({", ".join(missing[:SHOWN])})')
    return state
