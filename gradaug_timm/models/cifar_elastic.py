"""How the CIFAR networks' blocks are skipped, and PyramidNet's own plan. (The CIFAR ResNets' blocks are timm's.)"""
from torch import nn
from torch.nn import functional as F

from ..elastic import (
    PLANNERS,
    Elastic,
    Plan,
    Skippable,
    block_names,
    count,
    prefix_plan,
    register_block,
    register_layer,
)
from .cifar_pyramidnet import PadShortcut, PyramidBasicBlock, PyramidBottleneck
from .cifar_wide_resnet import WideResNetBlock


@register_block
class ElasticWideResNetBlock(Skippable, WideResNetBlock):
    plain = WideResNetBlock

    def dense_shortcut(self) -> nn.Module:
        return nn.Identity() if self.downsample is None else nn.Sequential(self.norm1, self.act1, self.downsample)


@register_layer
class ElasticPadShortcut(Elastic, PadShortcut):
    """Pads to as many channels as the sub-network keeps."""
    plain = PadShortcut

    def sides(self):
        return None, self.out_channels

    def forward(self, x):
        channels = count(None if self.kept is None else self.kept.out, self.out_channels)
        return F.pad(self.pool(x), (0, 0, 0, 0, 0, channels - x.shape[1]))

    def shrink(self, kept):
        self.out_channels = count(kept.out, self.out_channels)


class _SkippablePyramidBlock(Skippable):
    def dense_shortcut(self) -> nn.Module:
        return self.downsample


@register_block
class ElasticPyramidBasicBlock(_SkippablePyramidBlock, PyramidBasicBlock):
    plain = PyramidBasicBlock


@register_block
class ElasticPyramidBottleneck(_SkippablePyramidBlock, PyramidBottleneck):
    plain = PyramidBottleneck


def plan_pyramidnet(model: nn.Module) -> Plan:
    """Every layer keeps a prefix of its own: the shortcut brings back, as zeros, what a narrower one dropped."""
    names = {cls: [name for name, module in model.named_modules() if isinstance(module, cls)]
             for cls in (nn.Conv2d, nn.Linear)}
    classifier = names[nn.Linear][-1] if names[nn.Linear] else None
    return prefix_plan(model, first=names[nn.Conv2d][0], classifier=classifier, blocks=block_names(model))


for _block in (PyramidBasicBlock, PyramidBottleneck):
    PLANNERS[_block] = plan_pyramidnet
