"""PyramidNets for CIFAR (Han, Kim and Kim, arXiv 1610.02915), additive: every block is wider than the one before."""
import itertools
import math
from functools import partial

import torch
from timm.layers import LayerType, get_act_layer, get_norm_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn
from torch.nn import functional as F

from .cifar import CifarNet, cifar_cfg

__all__ = ['PadShortcut', 'PyramidBasicBlock', 'PyramidBottleneck', 'PyramidNet']


class PadShortcut(nn.Module):
    """Shortcut without parameters: average pooling by the stride, then zero channels up to `out_channels`."""

    def __init__(self, out_channels: int, stride: int):
        super().__init__()
        self.out_channels = out_channels
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(self.pool(x), (0, 0, 0, 0, 0, self.out_channels - x.shape[1]))


class PyramidBasicBlock(nn.Module):
    """Block with norm-conv-norm-ReLU-conv-norm, a zero-padded shortcut, and no activation after the sum."""
    expansion = 1

    def __init__(
            self,
            in_chs: int,
            out_chs: int,
            stride: int,
            drop_path: nn.Module,
            act_layer: LayerType,
            norm_layer: LayerType,
            device=None,
            dtype=None,
    ):
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        self.norm1 = norm_layer(in_chs, **dd)
        self.conv1 = nn.Conv2d(in_chs, out_chs, 3, stride=stride, padding=1, bias=False, **dd)
        self.norm2 = norm_layer(out_chs, **dd)
        self.act2 = act_layer(inplace=True)
        self.conv2 = nn.Conv2d(out_chs, out_chs, 3, padding=1, bias=False, **dd)
        self.norm3 = norm_layer(out_chs, **dd)
        self.drop_path = drop_path
        self.downsample = PadShortcut(out_chs, stride)

    def zero_init_last(self):
        nn.init.zeros_(self.norm3.weight)

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block without the residual branch."""
        return self.downsample(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.conv1(self.norm1(x))
        residual = self.norm3(self.conv2(self.act2(self.norm2(residual))))
        return self.shortcut(x) + self.drop_path(residual)


class PyramidBottleneck(nn.Module):
    """Block with 1x1, 3x3 and 1x1 convolutions, the last one four times as wide; otherwise as PyramidBasicBlock."""
    expansion = 4

    def __init__(
            self,
            in_chs: int,
            out_chs: int,
            stride: int,
            drop_path: nn.Module,
            act_layer: LayerType,
            norm_layer: LayerType,
            device=None,
            dtype=None,
    ):
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        mid_chs = out_chs // self.expansion
        self.norm1 = norm_layer(in_chs, **dd)
        self.conv1 = nn.Conv2d(in_chs, mid_chs, 1, bias=False, **dd)
        self.norm2 = norm_layer(mid_chs, **dd)
        self.act2 = act_layer(inplace=True)
        self.conv2 = nn.Conv2d(mid_chs, mid_chs, 3, stride=stride, padding=1, bias=False, **dd)
        self.norm3 = norm_layer(mid_chs, **dd)
        self.act3 = act_layer(inplace=True)
        self.conv3 = nn.Conv2d(mid_chs, out_chs, 1, bias=False, **dd)
        self.norm4 = norm_layer(out_chs, **dd)
        self.drop_path = drop_path
        self.downsample = PadShortcut(out_chs, stride)

    def zero_init_last(self):
        nn.init.zeros_(self.norm4.weight)

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block without the residual branch."""
        return self.downsample(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.conv1(self.norm1(x))
        residual = self.conv2(self.act2(self.norm2(residual)))
        residual = self.norm4(self.conv3(self.act3(self.norm3(residual))))
        return self.shortcut(x) + self.drop_path(residual)


def pyramid_channels(
        blocks: int,
        alpha: int,
        expansion: int,
        stem_chs: int = 16,
        *,
        half_to_even: bool = False,
) -> list[list[int]]:
    """Return the output channels of every block, which grow in equal steps to `stem_chs + alpha`.

    Args:
        blocks: Blocks in each of the three stages.
        alpha: Channels that the last block adds to the channels of the stem.
        expansion: Factor that multiplies the channels.
        stem_chs: Channels of the stem.
        half_to_even: Add the steps up one by one and round halves to even, as PyTorch implementations of the paper do.
    """
    total = 3 * blocks
    if half_to_even:
        sums = itertools.accumulate(itertools.repeat(alpha / total, total), initial=float(stem_chs))
        widths = [round(width) * expansion for width in sums][1:]
    else:
        widths = [math.floor(stem_chs + alpha * index / total + 0.5) * expansion for index in range(1, total + 1)]
    return [widths[start:start + blocks] for start in range(0, total, blocks)]


class PyramidNet(CifarNet):
    """PyramidNet for CIFAR.

    Args:
        depth: Number of layers: 6n + 2, with bottlenecks 9n + 2.
        alpha: Channels that the last block adds to the channels of the stem (before a bottleneck's expansion).
        bottleneck: Use bottleneck blocks.
        half_to_even: Round a width of half a channel to even, as some checkpoints need (`pyramid_channels`).
        act_layer: Activation.
        norm_layer: Norm.
        device: Device of the parameters.
        dtype: Type of the parameters.
        **kwargs: Arguments of `CifarNet`.

    Raises:
        ValueError: No PyramidNet has this depth.

    Example:
        >>> import torch
        >>> from gradaug_timm import PyramidNet
        >>> network = PyramidNet(depth=20, alpha=48, num_classes=10)
        >>> network(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
        >>> network.num_features
        64
    """

    def __init__(
            self,
            depth: int = 110,
            alpha: int = 270,
            bottleneck: bool = False,
            half_to_even: bool = False,
            act_layer: LayerType = nn.ReLU,
            norm_layer: LayerType = nn.BatchNorm2d,
            device=None,
            dtype=None,
            **kwargs,
    ):
        layers = dict(
            device=device, dtype=dtype, act_layer=get_act_layer(act_layer), norm_layer=get_norm_layer(norm_layer))
        block, step = (PyramidBottleneck, 9) if bottleneck else (PyramidBasicBlock, 6)
        blocks, rest = divmod(depth - 2, step)
        if rest or blocks < 1:
            raise ValueError(f'depth={depth} of a PyramidNet with bottleneck={bottleneck} must be {step}n + 2.')
        channels = pyramid_channels(blocks, alpha, block.expansion, half_to_even=half_to_even)
        super().__init__(partial(block, **layers), channels, stem_act=False, **layers, **kwargs)


default_cfgs = generate_default_cfgs({
    name: cifar_cfg(paper_ids='arXiv:1610.02915', paper_name='Deep Pyramidal Residual Networks')
    for name in ('pyramidnet110_a270', 'pyramidnet200_a240')
})


def _create(variant: str, pretrained: bool, **kwargs) -> PyramidNet:
    return build_model_with_cfg(
        PyramidNet, variant, pretrained, feature_cfg=dict(out_indices=(0, 1, 2, 3)), **kwargs)


@register_model
def pyramidnet110_a270(pretrained: bool = False, **kwargs) -> PyramidNet:
    """Create PyramidNet-110 for CIFAR with alpha 270 and basic blocks."""
    return _create('pyramidnet110_a270', pretrained, **dict(dict(depth=110, alpha=270), **kwargs))


@register_model
def pyramidnet200_a240(pretrained: bool = False, **kwargs) -> PyramidNet:
    """Create PyramidNet-200 for CIFAR with alpha 240 and bottleneck blocks."""
    return _create('pyramidnet200_a240', pretrained, **dict(dict(depth=200, alpha=240, bottleneck=True), **kwargs))
