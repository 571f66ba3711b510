"""Skippable blocks of the CIFAR networks, and the plan of PyramidNet; CIFAR ResNets use the blocks of timm."""
from torch import nn

from ..elastic import Plan, Skippable, prefix_plan, register_block, register_planner
from .cifar_pyramidnet import PadShortcut, PyramidBasicBlock, PyramidBottleneck
from .cifar_wide_resnet import WideResNetBlock


@register_block(WideResNetBlock)
class SkippableWideResNetBlock(Skippable):
    """Block of a wide ResNet; the shortcut is the input, or the projection of the normalised input."""

    def dense_shortcut(self) -> nn.Module:
        return nn.Identity() if self.downsample is None else nn.Sequential(self.norm1, self.act1, self.downsample)


@register_block(PyramidBasicBlock, PyramidBottleneck)
class SkippablePyramidBlock(Skippable):
    """Block of a PyramidNet; the shortcut pads with zero channels."""

    def dense_shortcut(self) -> nn.Module:
        return self.downsample


@register_planner(PyramidBasicBlock, PyramidBottleneck)
def plan_pyramidnet(model: nn.Module) -> list[Plan]:
    """Return the plan in which every layer keeps its own prefix of channels.

    Channels that a narrow layer drops come back as zeros, because shortcuts pad with zero channels.
    """
    names = {cls: [name for name, module in model.named_modules() if isinstance(module, cls)]
             for cls in (nn.Conv2d, nn.Linear, PyramidBasicBlock | PyramidBottleneck)}
    convs, linears, blocks = names.values()
    return [prefix_plan(model, first=convs[0], classifier=linears[-1] if linears else None, blocks=tuple(blocks),
                        counting={PadShortcut: 'out_channels'})]
