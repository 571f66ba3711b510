"""Physically narrow networks, built by the constructors of the networks and filled with copied slices: an oracle for
sub-networks that shares no code with gradaug_timm.elastic."""
from functools import partial

import torch
from timm.layers import BlurPool2d, EcaModule, SEModule
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from gradaug_timm.models import CifarResNet, PyramidNet, WideResNet
from gradaug_timm.models.cifar import CifarNet
from gradaug_timm.models.cifar_pyramidnet import PyramidBasicBlock, PyramidBottleneck, pyramid_channels
from gradaug_timm.models.cifar_resnet import cifar_basic_block

LAYERS = dict(act_layer=nn.ReLU, norm_layer=nn.BatchNorm2d)
SMALL = dict(num_classes=7)
SQUEEZE = dict(attn_layer=partial(SEModule, rd_ratio=0.25, rd_divisor=1))
ATTEND = dict(attn_layer=lambda channels, **_: EcaModule(kernel_size=3))


def _resnet(block, share, **kwargs):
    channels = tuple(int(c * share) for c in (32, 64, 96, 128))
    stem = dict(stem_type='deep', stem_width=int(16 * share))
    return ResNet(block, [2, 1, 1, 1], channels=channels, **stem, **SMALL, **kwargs)


def _resnext(share):
    # 8 groups of 4 channels at full width; half of them stay
    return _resnet(Bottleneck, share, cardinality=int(8 * share), base_width=int(8 / share))


def _pyramid(block, alpha, width):
    channels = [[int(c * width + 0.5) for c in stage] for stage in pyramid_channels(2, alpha, block.expansion)]
    block = partial(_NarrowBottleneck if block is PyramidBottleneck else block, **LAYERS)
    return CifarNet(block, channels, stem_chs=int(16 * width + 0.5), stem_act=False, **LAYERS, **SMALL)


def _vit(share):
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=int(48 * share), num_heads=int(4 * share), depth=2, init_values=0.5,
        dynamic_img_size=True, **SMALL)


def _convnext(share):
    return ConvNeXt(
        depths=(1, 2, 1, 1), dims=[int(channels * share) for channels in (16, 24, 32, 40)], patch_size=1, use_grn=True,
        **SMALL)


def _swin(share):
    return SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=int(24 * share), depths=(2, 1),
        num_heads=(int(2 * share), int(4 * share)), strict_img_size=False, drop_path_rate=0.0, **SMALL)


class _NarrowBottleneck(PyramidBottleneck):
    """A bottleneck whose inner channels are rounded by themselves, not derived from its rounded output."""
    full = {}

    def __init__(self, in_chs, out_chs, stride, drop_path, **kwargs):
        super().__init__(in_chs, out_chs, stride, drop_path, **kwargs)
        mid_chs = self.full[out_chs]
        self.conv1 = nn.Conv2d(in_chs, mid_chs, 1, bias=False)
        self.conv2 = nn.Conv2d(mid_chs, mid_chs, 3, stride=stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(mid_chs, out_chs, 1, bias=False)
        self.norm2, self.norm3 = nn.BatchNorm2d(mid_chs), nn.BatchNorm2d(mid_chs)


for _stage in pyramid_channels(2, 24, 4):
    for _chs in _stage:
        _NarrowBottleneck.full[int(_chs * 0.6 + 0.5)] = int(_chs // 4 * 0.6 + 0.5)

# name -> (full network, the same at `width` with `divisor`, width, divisor)
PAIRS = {
    'basic': (lambda: _resnet(BasicBlock, 1), lambda: _resnet(BasicBlock, 0.5), 0.5, 1),
    'bottleneck': (lambda: _resnet(Bottleneck, 1), lambda: _resnet(Bottleneck, 0.75), 0.75, 4),
    'avg_down': (
        lambda: _resnet(Bottleneck, 1, avg_down=True), lambda: _resnet(Bottleneck, 0.5, avg_down=True), 0.5, 1),
    'squeeze_excite': (
        lambda: _resnet(BasicBlock, 1, block_args=SQUEEZE), lambda: _resnet(BasicBlock, 0.5, block_args=SQUEEZE),
        0.5, 1),
    'channel_attention': (
        lambda: _resnet(BasicBlock, 1, block_args=ATTEND), lambda: _resnet(BasicBlock, 0.5, block_args=ATTEND), 0.5, 1),
    'grouped': (lambda: _resnext(1), lambda: _resnext(0.5), 0.5, 1),
    'anti_aliased': (
        lambda: _resnet(BasicBlock, 1, aa_layer=BlurPool2d), lambda: _resnet(BasicBlock, 0.5, aa_layer=BlurPool2d),
        0.5, 1),
    'two_pools': (
        lambda: _resnet(BasicBlock, 1, global_pool='catavgmax'),
        lambda: _resnet(BasicBlock, 0.5, global_pool='catavgmax'), 0.5, 1),
    'vit': (lambda: _vit(1), lambda: _vit(0.5), 0.5, 1),
    'convnext': (lambda: _convnext(1), lambda: _convnext(0.5), 0.5, 1),
    'swin': (lambda: _swin(1), lambda: _swin(0.5), 0.5, 1),
    'cifar_resnet': (
        lambda: CifarResNet(depth=14, **SMALL),
        lambda: CifarNet(
            partial(cifar_basic_block, device=None, dtype=None, **LAYERS), [[8] * 2, [16] * 2, [32] * 2], stem_chs=8,
            final_norm=False, **LAYERS, **SMALL),
        0.5, 8),
    'wide_resnet': (
        lambda: WideResNet(depth=10, widen_factor=2, **SMALL),
        lambda: WideResNet(depth=10, widen_factor=1, stem_chs=8, **SMALL), 0.5, 1),
    'pyramid_basic': (
        lambda: PyramidNet(depth=14, alpha=30, **SMALL), lambda: _pyramid(PyramidBasicBlock, 30, 0.7), 0.7, 1),
    'pyramid_bottleneck': (
        lambda: PyramidNet(depth=20, alpha=24, bottleneck=True, **SMALL),
        lambda: _pyramid(PyramidBottleneck, 24, 0.6), 0.6, 1),
}


def randomised(model: nn.Module) -> nn.Module:
    """The network with norms that aren't near the identity, so that a misplaced channel shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, nn.LayerNorm | GlobalResponseNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model


def narrow_pair(name: str) -> tuple[nn.Module, nn.Module, float, int]:
    """A full network and the physically narrow one with the leading slice of each of its tensors; width and divisor."""
    torch.manual_seed(0)
    make_full, make_narrow, width, divisor = PAIRS[name]
    full, narrow = randomised(make_full()), make_narrow()
    source = full.state_dict()
    for key, tensor in narrow.state_dict().items():
        tensor.copy_(leading(source[key], tensor.shape, name, key))
    return full, narrow, width, divisor


def leading(tensor: torch.Tensor, shape: torch.Size, name: str = '', key: str = '') -> torch.Tensor:
    """The leading slice of `tensor` in each dimension; of each part where a layer holds several."""
    if name == 'two_pools' and key == 'fc.weight':
        return torch.cat([half[:, :shape[1] // 2] for half in tensor.chunk(2, 1)], 1)
    if '.qkv.' in key:
        return torch.cat([part[:shape[0] // 3, :shape[1]] if tensor.dim() == 2 else part[:shape[0] // 3]
                          for part in tensor.chunk(3)])
    if '.downsample.norm.' in key:
        return torch.cat([part[:shape[0] // 4] for part in tensor.chunk(4)])
    if '.downsample.reduction.' in key:
        return torch.cat([part[:shape[0], :shape[1] // 4] for part in tensor.chunk(4, 1)], 1)
    return tensor[tuple(slice(0, size) for size in shape)]
