"""A copy of a network for planning, and the size of the images that it takes."""
import copy
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import to_2tuple
from torch import nn

from ...cli import one_line
from ...upstream import remove_forward_hooks, stop_recomputing
from ..modes import evaluation
from ..swap import without_caches

SIZE = ('img_size', 'image_size')  # attributes with the size of images: of timm, and of torchvision and open_clip


def replica_of(model: nn.Module) -> nn.Module:
    """Return a copy of a network on the CPU, in float32 and evaluation mode, with random parameters and buffers.

    It takes small images if timm can change their size. The network may be on any device.
    """
    replica = random_copy(model)
    _shrink_input(replica)
    return replica.train().eval()  # switching modes clears caches of values computed from parameters


def random_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a network as `replica_of`, for images of the network's own size.

    Values are random because layers that start at zero would hide differences. Vectors and buffers are positive, as
    the variance of a BatchNorm or the filter of a blur must be.
    """
    memo = {id(tensor): _random_like(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    memo.update(without_caches(model))
    replica = copy.deepcopy(model, memo).requires_grad_(False)
    for module in replica.modules():  # the user's hooks must not see the copy
        remove_forward_hooks(module)
        stop_recomputing(module)
    return replica.train().eval()


def _shrink_input(replica: nn.Module) -> None:
    """Make a network of a fixed input size take a small one, if timm can change the size."""
    if hasattr(replica, 'set_input_size') and hasattr(replica, 'patch_embed'):
        patch = max(to_2tuple(replica.patch_embed.patch_size))
        with _quiet_timm():
            replica.set_input_size(img_size=max(4 * patch, 64 // patch * patch))
        for tensor in [*replica.parameters(), *replica.buffers()]:
            tensor.data = _random_like(tensor).data.requires_grad_(False)


@contextmanager
def _quiet_timm() -> Iterator[None]:
    """Silence timm's messages about position embeddings, because the copy is not the user's network."""
    logger = logging.getLogger('timm')
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _random_like(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        new = tensor.clone() if tensor.device.type != 'meta' else torch.zeros(tensor.shape, dtype=tensor.dtype)
    elif tensor.dim() > 1 and isinstance(tensor, nn.Parameter):
        new = torch.randn(tensor.shape) * (2 / max(1, tensor[0].numel())) ** 0.5
    else:
        new = torch.rand(tensor.shape) + 0.5
    return nn.Parameter(new) if isinstance(tensor, nn.Parameter) else new


def probe_shape(model: nn.Module) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of a small image that the network takes and in which attention sees many tokens.

    The network runs in evaluation mode, on its own device, and is not changed.

    Raises:
        ValueError: The network takes no image of the sizes that were tried.
    """
    usual = tuple((getattr(model, 'pretrained_cfg', None) or {}).get('input_size', (3, 224, 224)))
    first = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), usual[0])
    channels = dict.fromkeys((getattr(model, 'in_chans', first), first, usual[0], 3))
    weight = next(model.parameters(), torch.zeros(0))
    reason = ''
    for shape in itertools.product(channels, dict.fromkeys([*_probe_sizes(model, usual[1:]), usual[1:]])):
        image = (shape[0], *shape[1])
        try:
            with evaluation(model), torch.no_grad(), weight.device:
                model(torch.zeros(1, *image, dtype=weight.dtype))
            return image
        except Exception as error:  # the network's own code may raise anything
            reason = one_line(error, kind=True)
    raise ValueError(f'{type(model).__name__} can\'t run as sub-networks: it fails on an image of '
                     f'{(next(iter(channels)), *usual[1:])} ({reason}).')


def _probe_sizes(model: nn.Module, usual: tuple[int, int]) -> list[tuple[int, int]]:
    """Return heights and widths of images in the order in which they are tried: the network's own size, if it has one.

    Args:
        model: The network.
        usual: Height and width by the network's metadata.
    """
    own = [to_2tuple(vars(module)[key]) for module in model.modules() for key in SIZE if vars(module).get(key)]
    if not own and max(usual) <= 32:
        return [(16, 16), (32, 32)]
    attends = any('num_heads' in vars(module) for module in model.modules())
    return own[:1] + [(size, size) for size in (128 if attends else 64, 64, 96, 128, 192, 224, 256, 32, 16, 48, 384)]
