"""Wide residual networks for CIFAR (Zagoruyko and Komodakis, arXiv 1605.07146): pre-activation basic blocks."""
from functools import partial

import torch
from timm.layers import LayerType, get_act_layer, get_norm_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from .cifar import CifarNet, cifar_cfg

__all__ = ['WideResNet', 'WideResNetBlock']


class WideResNetBlock(nn.Module):
    """Block with norm-ReLU-conv twice; if the shape changes, the shortcut projects the activated input.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        stride: Stride of the first convolution.
        drop_path: Stochastic depth on the residual branch.
        drop_rate: Dropout between the convolutions.
        act_layer: Activation.
        norm_layer: Norm.
        device: Device of the parameters.
        dtype: Type of the parameters.
    """

    def __init__(
            self,
            in_chs: int,
            out_chs: int,
            stride: int,
            drop_path: nn.Module,
            drop_rate: float,
            act_layer: LayerType,
            norm_layer: LayerType,
            device=None,
            dtype=None,
    ):
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        self.norm1 = norm_layer(in_chs, **dd)
        self.act1 = act_layer(inplace=True)
        self.conv1 = nn.Conv2d(in_chs, out_chs, 3, stride=stride, padding=1, bias=False, **dd)
        self.norm2 = norm_layer(out_chs, **dd)
        self.act2 = act_layer(inplace=True)
        self.drop = nn.Dropout(drop_rate)
        self.conv2 = nn.Conv2d(out_chs, out_chs, 3, padding=1, bias=False, **dd)
        self.drop_path = drop_path
        self.downsample = None
        if stride != 1 or in_chs != out_chs:
            self.downsample = nn.Conv2d(in_chs, out_chs, 1, stride=stride, bias=False, **dd)

    def zero_init_last(self):
        nn.init.zeros_(self.conv2.weight)

    def shortcut(self, x: torch.Tensor, activated: torch.Tensor | None = None) -> torch.Tensor:
        """Return the output of the block without the residual branch.

        Args:
            x: The input of the block.
            activated: The input after norm and activation, if it is already computed.
        """
        if self.downsample is None:
            return x
        return self.downsample(self.act1(self.norm1(x)) if activated is None else activated)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.act1(self.norm1(x))
        residual = self.act2(self.norm2(self.conv1(activated)))
        residual = self.conv2(self.drop(residual))
        return self.shortcut(x, activated) + self.drop_path(residual)


class WideResNet(CifarNet):
    """Wide residual network for CIFAR.

    Args:
        depth: Number of layers, 6n + 4.
        widen_factor: Factor that multiplies the 16, 32 and 64 channels of the stages.
        block_drop_rate: Dropout between the two convolutions of a block.
        act_layer: Activation.
        norm_layer: Norm.
        device: Device of the parameters.
        dtype: Type of the parameters.
        **kwargs: Arguments of `CifarNet`.

    Raises:
        ValueError: No wide ResNet has this depth.

    Example:
        >>> import torch
        >>> from gradaug_timm import WideResNet
        >>> network = WideResNet(depth=10, widen_factor=2, num_classes=10)
        >>> network(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
            self,
            depth: int = 28,
            widen_factor: int = 10,
            block_drop_rate: float = 0.,
            act_layer: LayerType = nn.ReLU,
            norm_layer: LayerType = nn.BatchNorm2d,
            device=None,
            dtype=None,
            **kwargs,
    ):
        layers = dict(
            device=device, dtype=dtype, act_layer=get_act_layer(act_layer), norm_layer=get_norm_layer(norm_layer))
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f'depth={depth} of a wide ResNet must be 6n + 4: 10, 16, 22, ...')
        block_fn = partial(WideResNetBlock, drop_rate=block_drop_rate, **layers)
        channels = [[chs * widen_factor] * blocks for chs in (16, 32, 64)]
        super().__init__(block_fn, channels, stem_norm=False, stem_act=False, **layers, **kwargs)


default_cfgs = generate_default_cfgs({
    name: cifar_cfg(paper_ids='arXiv:1605.07146', paper_name='Wide Residual Networks')
    for name in ('wide_resnet28_10', 'wide_resnet16_8')
})


def _create(variant: str, pretrained: bool, **kwargs) -> WideResNet:
    return build_model_with_cfg(
        WideResNet, variant, pretrained, feature_cfg=dict(out_indices=(0, 1, 2, 3)), **kwargs)


@register_model
def wide_resnet28_10(pretrained: bool = False, **kwargs) -> WideResNet:
    """Create WRN-28-10 for CIFAR."""
    return _create('wide_resnet28_10', pretrained, **dict(dict(depth=28, widen_factor=10), **kwargs))


@register_model
def wide_resnet16_8(pretrained: bool = False, **kwargs) -> WideResNet:
    """Create WRN-16-8 for CIFAR."""
    return _create('wide_resnet16_8', pretrained, **dict(dict(depth=16, widen_factor=8), **kwargs))
