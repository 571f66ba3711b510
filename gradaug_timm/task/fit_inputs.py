"""Image sizes that fit a network; networks of one image size get rotated images instead."""
import logging
import math
from collections.abc import Container
from dataclasses import replace

import torch
from timm.models import get_model_input_config
from torch import nn

from ..cli import one_line
from ..elastic import Subnet, activate, num_blocks
from .sampling import possible_transforms
from .settings import GradAugSettings
from .transformations import Resize
from .transforms import InputTransform, apply_transform

_logger = logging.getLogger(__name__)

USUAL_STRIDE = 32  # of networks that don't tell theirs


def fit_inputs(
        network: nn.Module,
        settings: GradAugSettings,
        input_size: tuple[int, int, int],
        *,
        given: Container[str] = (),
) -> GradAugSettings:
    """Return the settings with inputs that the network accepts.

    Sizes that were given by hand stay as they are. Of the others those on which the smallest sub-network fails are
    rounded to the network's stride. Where that leaves the full size alone, or timm says that the network takes no
    other, sub-networks get rotated images instead.

    Args:
        network: An elastic network.
        settings: The settings.
        input_size: Channels, height and width of the images.
        given: Names of the settings that were given by hand.

    Raises:
        ValueError: The network fails on a size that was given, on what a further transformation makes of the images,
            or on images of `input_size`.
    """
    subnet = smallest_subnet(settings, num_blocks(network))
    if 'sizes' in given:
        for size in settings.sizes:
            _check(network, subnet, input_size, _resized(size), f'--gradaug-sizes {size:.4g}')
    else:
        _check(network, subnet, input_size, InputTransform(), '--img-size or --input-size')
        settings = _with_fitting_sizes(network, subnet, settings, input_size, turns='rotation' not in given)
    _check_registered(network, subnet, input_size, settings)
    return settings


def _with_fitting_sizes(
        network: nn.Module,
        subnet: Subnet,
        settings: GradAugSettings,
        input_size: tuple[int, int, int],
        *,
        turns: bool,
) -> GradAugSettings:
    """Return the settings with sizes that the network accepts; `turns` allows rotation in place of a single size."""
    sizes = (1.0,) if _is_fixed(network) else fitting_sizes(network, subnet, settings.sizes, input_size)
    turns = turns and sizes == (1.0,) != settings.sizes
    return replace(settings, sizes=sizes, rotation=right_angles(*input_size[1:]) if turns else settings.rotation)


def log_inputs(network: nn.Module, preset: GradAugSettings, settings: GradAugSettings) -> None:
    """Log why `fit_inputs` chose settings other than the preset."""
    if settings.sizes == preset.sizes:
        return
    if settings.sizes == (1.0,):
        _logger.info('The network takes images of one size only: those of sub-networks are '
                     f'{"rotated instead of" if settings.rotation else "not"} resized.')
    else:
        _logger.info(f'Sizes of sub-networks\' images are rounded to the network\'s stride of {stride_of(network)}.')


def fitting_sizes(
        network: nn.Module,
        subnet: Subnet,
        sizes: tuple[float, ...],
        input_size: tuple[int, int, int],
) -> tuple[float, ...]:
    """Return the sizes that a sub-network accepts; other sizes are rounded, or left out if rounding does not help."""
    stride, longer = stride_of(network), max(input_size[1:])
    found = []
    for size in sizes:
        candidates = (size, rounded_size(size, longer, stride))
        fits = (candidate for candidate in candidates
                if failure(network, subnet, input_size, _resized(candidate)) is None)
        found.append(next(fits, 1.0))
    return tuple(dict.fromkeys(found))


def rounded_size(size: float, pixels: int, stride: int) -> float:
    """Return the fraction of `pixels` nearest to `size` that is a multiple of `stride`; at most 1."""
    return min(1.0, max(1, math.floor(size * pixels / stride + 0.5)) * stride / pixels)


def right_angles(height: int, width: int) -> tuple[float, ...]:
    """Return the angles, in degrees, that leave no empty corners."""
    return (0.0, 90.0, 180.0, 270.0) if height == width else (0.0, 180.0)


def stride_of(network: nn.Module) -> int:
    """Return the stride of the last feature map, in pixels; for a ViT, the size of a patch."""
    features = getattr(network, 'feature_info', None)
    return features[-1]['reduction'] if features else USUAL_STRIDE


def smallest_subnet(settings: GradAugSettings, blocks: int) -> Subnet:
    """Return the smallest sub-network of a network with so many residual blocks."""
    width = settings.min_width if settings.random_width else 1.
    return Subnet(width, settings.divisor, tuple(range(blocks)) if settings.random_depth else ())


@torch.no_grad()
def failure(
        network: nn.Module,
        subnet: Subnet,
        input_size: tuple[int, int, int],
        transform: InputTransform,
) -> str | None:
    """Return why a sub-network fails on transformed images in evaluation mode; None if it does not fail.

    Args:
        network: An elastic network.
        subnet: The sub-network.
        input_size: Channels, height and width of the full network's images.
        transform: What they go through.
    """
    weight = next(network.parameters())
    images = torch.zeros(2, *input_size, device=weight.device, dtype=weight.dtype)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with activate(network, subnet):
            network(apply_transform(images, transform))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        return one_line(error)
    finally:
        for module, training in modes:
            module.training = training
    return None


def _resized(size: float) -> InputTransform:
    return InputTransform((Resize(size),))


def _check_registered(
        network: nn.Module,
        subnet: Subnet,
        input_size: tuple[int, int, int],
        settings: GradAugSettings,
) -> None:
    """Check that a sub-network accepts the images that registered transformations return."""
    known = {_resized(size).output_size(*input_size[1:]) for size in settings.sizes}
    for transform in possible_transforms(settings) if settings.transforms else ():
        size = transform.output_size(*input_size[1:])
        if size not in known:
            _check(network, subnet, input_size, transform, f'--gradaug-transforms, {transform.describe()}')
            known.add(size)


def _check(
        network: nn.Module,
        subnet: Subnet,
        input_size: tuple[int, int, int],
        transform: InputTransform,
        flag: str,
) -> None:
    """Raise a ValueError that begins with `flag` if a sub-network fails on transformed images."""
    reason = failure(network, subnet, input_size, transform)
    if reason is not None:
        height, width = transform.output_size(*input_size[1:])
        raise ValueError(f'{flag}: the network fails at {height}x{width} pixels and width {subnet.width:g} ({reason})')


def _is_fixed(network: nn.Module) -> bool:
    """Return whether timm declares that a network accepts one image size only."""
    return get_model_input_config(network)['fixed_input_size']
