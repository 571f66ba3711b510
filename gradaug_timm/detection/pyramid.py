"""A timm network with a feature pyramid; its sub-networks keep all outputs of the pyramid."""
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

import torch
from timm.layers import Format
from timm.models import create_model
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ..cli import one_line
from ..elastic import Plan, make_elastic, plans_by_probing, register_planner

CHANNELS = 256
LEVELS = 4  # of the network; the pyramid adds one above them
LATERAL = 'fpn.inner_blocks.'


class Pyramid(nn.Module):
    """The last stages of a network, and a pyramid over them whose outputs keep all channels.

    Args:
        body: A timm network made by `features_only`.
        channels: Channels of each output.
    """

    def __init__(self, body: nn.Module, channels: int = CHANNELS):
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), channels, LastLevelMaxPool())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Turn images [N, 3, H, W] into maps [N, channels, h, w], the largest first."""
        maps = self.body(x)
        if getattr(self.body, 'output_fmt', None) == Format.NHWC:
            maps = [each.permute(0, 3, 1, 2) for each in maps]
        stages = OrderedDict((str(index), each) for index, each in enumerate(maps))
        return list(self.fpn(stages).values())


@register_planner(Pyramid)  # type: ignore[arg-type]
def pyramid_plans(pyramid: Pyramid) -> Iterator[Plan]:
    """Plan network and pyramid as one; of the pyramid only the inputs of the lateral convolutions shrink."""
    for plan in plans_by_probing(pyramid):
        tensors = {}
        for name, sides in plan.tensors.items():
            if name.startswith(LATERAL) and name.endswith('.weight') and sides[1] is not None:
                tensors[name] = (None, sides[1], *sides[2:])
            elif not name.startswith('fpn.'):
                tensors[name] = sides
        numbers = {name: number for name, number in plan.numbers.items()
                   if not name.startswith('fpn.') or (name.startswith(LATERAL) and name.endswith('.in_channels'))}
        yield replace(plan, tensors=tensors, numbers=numbers)


class PyramidBackbone(nn.Module):
    """The backbone of a torchvision detector: maps by the names that the heads expect.

    Args:
        pyramid: The pyramid, which is made elastic.

    Raises:
        ValueError: The network can't run as sub-networks.
    """

    def __init__(self, pyramid: Pyramid):
        super().__init__()
        self.pyramid = make_elastic(pyramid)
        self.out_channels = pyramid.fpn.inner_blocks[0][0].out_channels

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Turn images [N, 3, H, W] into maps [N, out_channels, h, w]."""
        maps = self.pyramid(x)
        return OrderedDict(zip([*map(str, range(len(maps) - 1)), 'pool'], maps))


def create_backbone(name: str, *, channels: int = CHANNELS, **kwargs) -> PyramidBackbone:
    """Create the pyramid over the last four stages of a timm network.

    Args:
        name: Name of the network.
        channels: Channels of each map.
        **kwargs: More arguments of timm's `create_model`.

    Raises:
        ValueError: Its stages have no feature maps, or it can't run as sub-networks.
    """
    try:
        body = create_model(name, features_only=True, out_indices=tuple(range(-LEVELS, 0)), **kwargs)
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError) as error:
        raise ValueError(f'--model {name} gives no {LEVELS} feature maps for detection: {one_line(error)}') from error
    reductions = body.feature_info.reduction()
    if sorted(set(reductions)) != reductions:
        raise ValueError(
            f'--model {name} has maps of strides {reductions}: a pyramid needs each stage coarser than the last, as of '
            'a ResNet or ConvNeXt')
    return PyramidBackbone(Pyramid(body, channels))
