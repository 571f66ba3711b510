"""ResNets for CIFAR (He et al., arXiv 1512.03385, section 4.2): basic blocks of 16, 32 and 64 channels."""
from functools import partial

from timm.layers import LayerType, get_act_layer, get_norm_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, downsample_conv
from torch import nn

from .cifar import CifarNet, cifar_cfg

__all__ = ['CifarResNet']


def cifar_basic_block(
        in_chs: int,
        out_chs: int,
        stride: int,
        drop_path: nn.Module,
        norm_layer: type[nn.Module],
        **layers,
) -> BasicBlock:
    """Return timm's basic block, with a projection if the shape changes."""
    downsample = None
    if stride != 1 or in_chs != out_chs:
        dd = {'device': layers['device'], 'dtype': layers['dtype']}
        downsample = downsample_conv(in_chs, out_chs, 1, stride=stride, norm_layer=norm_layer, **dd)
    return BasicBlock(in_chs, out_chs, stride, downsample, drop_path=drop_path, norm_layer=norm_layer, **layers)


class CifarResNet(CifarNet):
    """ResNet for CIFAR.

    Args:
        depth: Number of layers, 6n + 2.
        act_layer: Activation.
        norm_layer: Norm.
        device: Device of the parameters.
        dtype: Type of the parameters.
        **kwargs: Arguments of `CifarNet`.

    Raises:
        ValueError: No CIFAR ResNet has this depth.

    Example:
        >>> import torch
        >>> from gradaug_timm import CifarResNet
        >>> network = CifarResNet(depth=20, num_classes=10)
        >>> network(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
            self,
            depth: int = 20,
            act_layer: LayerType = nn.ReLU,
            norm_layer: LayerType = nn.BatchNorm2d,
            device=None,
            dtype=None,
            **kwargs,
    ):
        layers = dict(
            device=device, dtype=dtype, act_layer=get_act_layer(act_layer), norm_layer=get_norm_layer(norm_layer))
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f'depth={depth} of a CIFAR ResNet must be 6n + 2: 8, 14, 20, ...')
        channels = [[chs] * blocks for chs in (16, 32, 64)]
        super().__init__(partial(cifar_basic_block, **layers), channels, final_norm=False, **layers, **kwargs)


default_cfgs = generate_default_cfgs({
    name: cifar_cfg(paper_ids='arXiv:1512.03385', paper_name='Deep Residual Learning for Image Recognition')
    for name in ('resnet20_cifar', 'resnet56_cifar', 'resnet110_cifar')
})


def _create(variant: str, pretrained: bool, **kwargs) -> CifarResNet:
    return build_model_with_cfg(
        CifarResNet, variant, pretrained, feature_cfg=dict(out_indices=(0, 1, 2, 3)), **kwargs)


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs) -> CifarResNet:
    """Create ResNet-20 for CIFAR."""
    return _create('resnet20_cifar', pretrained, **dict(dict(depth=20), **kwargs))


@register_model
def resnet56_cifar(pretrained: bool = False, **kwargs) -> CifarResNet:
    """Create ResNet-56 for CIFAR."""
    return _create('resnet56_cifar', pretrained, **dict(dict(depth=56), **kwargs))


@register_model
def resnet110_cifar(pretrained: bool = False, **kwargs) -> CifarResNet:
    """Create ResNet-110 for CIFAR."""
    return _create('resnet110_cifar', pretrained, **dict(dict(depth=110), **kwargs))
