"""How the CIFAR networks' blocks are skipped, and PyramidNet's own plan. (The CIFAR ResNets' blocks are timm's.)"""
import torch
from torch import nn

from ..elastic.blocks import Skippable, register_block
from ..elastic.layers import count
from ..elastic.network import PLANNERS
from ..elastic.plan import Plan, prefix_plan
from .cifar_pyramidnet import PadShortcut, PyramidBasicBlock, PyramidBottleneck, PyramidNet
from .cifar_wide_resnet import WideResNetBlock


@register_block
class ElasticWideResNetBlock(Skippable, WideResNetBlock):
    plain = WideResNetBlock

    def dense_shortcut(self) -> nn.Module:
        return nn.Identity() if self.downsample is None else nn.Sequential(self.norm1, self.act1, self.downsample)


class _SkippablePyramidBlock(Skippable):
    """A skipped block still pads its input with zeros, to as many channels as the sub-network keeps."""

    def _kept_channels(self) -> int:
        return count(None if self.kept is None else self.kept.out, self.out_channels)

    def shortcut(self, x: torch.Tensor, channels: int | None = None) -> torch.Tensor:
        return super().shortcut(x, self._kept_channels() if channels is None else channels)

    def dense_shortcut(self) -> nn.Module:
        shortcut = PadShortcut(self._kept_channels(), 1)
        shortcut.pool = self.downsample.pool
        return shortcut


@register_block
class ElasticPyramidBasicBlock(_SkippablePyramidBlock, PyramidBasicBlock):
    plain = PyramidBasicBlock


@register_block
class ElasticPyramidBottleneck(_SkippablePyramidBlock, PyramidBottleneck):
    plain = PyramidBottleneck


def plan_pyramidnet(model: PyramidNet) -> Plan:
    """Every layer keeps a prefix of its own: the shortcut brings back, as zeros, what a narrower one dropped."""
    blocks = tuple(f'layer{stage + 1}.{index}' for stage in range(3) for index in range(len(model.stages[stage])))
    return prefix_plan(model, first='conv1', classifier=model.get_classifier(name_only=True), blocks=blocks)


PLANNERS[PyramidNet] = plan_pyramidnet
