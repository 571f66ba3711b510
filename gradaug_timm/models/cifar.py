"""Base of the CIFAR networks: a 3x3 stem, three stages, a pooled classifier, and timm's model API."""
from collections.abc import Callable, Sequence

import torch
from timm.layers import (
    ClassifierHead,
    DropPath,
    LayerType,
    calculate_drop_path_rates,
    get_act_layer,
    get_device_dtype,
    get_norm_layer,
)
from timm.models import checkpoint_seq
from torch import nn

from ..upstream import feature_take_indices

CIFAR_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)

# in channels, out channels, stride, drop path -> residual block
BlockFn = Callable[[int, int, int, nn.Module], nn.Module]


def cifar_cfg(**kwargs) -> dict:
    """Return the default configuration of a network for 32 x 32 images of 100 classes."""
    return {
        'num_classes': 100, 'input_size': (3, 32, 32), 'pool_size': (8, 8), 'crop_pct': 1.0,
        'interpolation': 'bilinear', 'mean': CIFAR_MEAN, 'std': CIFAR_STD,
        'first_conv': 'conv1', 'classifier': 'head.fc', **kwargs,
    }


class CifarNet(nn.Module):
    """Three stages of residual blocks at strides 1, 2 and 4, for any input size.

    Args:
        block_fn: Function that makes a residual block.
        channels: Output channels of every block, by stage.
        stem_chs: Output channels of the first convolution.
        stem_norm: Whether a norm follows the first convolution.
        stem_act: Whether an activation follows the first convolution.
        final_norm: Whether norm and activation follow the last stage, as pre-activation blocks need.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of image channels.
        global_pool: Type of the global pooling.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Rate of stochastic depth at the last block, linear from 0 at the first.
        zero_init_last: Initialise the last norm of every residual branch with zero; published CIFAR recipes do not.
        act_layer: Activation.
        norm_layer: Norm.
        device: Device of the parameters.
        dtype: Type of the parameters.
    """

    def __init__(
            self,
            block_fn: BlockFn,
            channels: Sequence[Sequence[int]],
            *,
            stem_chs: int = 16,
            stem_norm: bool = True,
            stem_act: bool = True,
            final_norm: bool = True,
            num_classes: int = 100,
            in_chans: int = 3,
            global_pool: str = 'avg',
            drop_rate: float = 0.,
            drop_path_rate: float = 0.,
            zero_init_last: bool = False,
            act_layer: LayerType = nn.ReLU,
            norm_layer: LayerType = nn.BatchNorm2d,
            device=None,
            dtype=None,
    ):
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        act_layer, norm_layer = get_act_layer(act_layer), get_norm_layer(norm_layer)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False

        self.conv1 = nn.Conv2d(in_chans, stem_chs, 3, padding=1, bias=False, **dd)
        self.bn1 = norm_layer(stem_chs, **dd) if stem_norm else nn.Identity()
        self.act1 = act_layer(inplace=True) if stem_act else nn.Identity()
        self.feature_info = [dict(num_chs=stem_chs, reduction=1, module='act1')]
        self._add_stages(block_fn, channels, stem_chs, drop_path_rate)

        self.num_features = self.feature_info[-1]['num_chs']
        self.norm = norm_layer(self.num_features, **dd) if final_norm else nn.Identity()
        self.act = act_layer(inplace=True) if final_norm else nn.Identity()
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate, **dd)
        self.head_hidden_size = self.head.num_features
        self.init_weights(zero_init_last)

    def _add_stages(self, block_fn: BlockFn, channels: Sequence[Sequence[int]], in_chs: int, drop_path_rate: float):
        rates = calculate_drop_path_rates(drop_path_rate, [len(stage) for stage in channels], stagewise=True)
        for index, (stage, stage_rates) in enumerate(zip(channels, rates)):
            blocks = []
            for block_index, (out_chs, rate) in enumerate(zip(stage, stage_rates)):
                stride = 2 if index > 0 and block_index == 0 else 1
                blocks.append(block_fn(in_chs, out_chs, stride, DropPath(rate) if rate > 0 else nn.Identity()))
                in_chs = out_chs
            self.add_module(f'layer{index + 1}', nn.Sequential(*blocks))
            self.feature_info.append(dict(num_chs=in_chs, reduction=2 ** index, module=f'layer{index + 1}'))

    @property
    def stages(self) -> list[nn.Sequential]:
        return [self.layer1, self.layer2, self.layer3]

    def init_weights(self, zero_init_last: bool = False):
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        if zero_init_last:
            for block in (block for stage in self.stages for block in stage):
                block.zero_init_last()

    def group_matcher(self, coarse: bool = False) -> dict:
        return dict(
            stem=r'^(?:conv1|bn1)\.',
            blocks=[(r'^layer(\d+)' if coarse else r'^layer(\d+)\.(\d+)', None), (r'^norm\.', (99999,))],
        )

    def set_grad_checkpointing(self, enable: bool = True):
        self.grad_checkpointing = enable

    def get_classifier(self, name_only: bool = False) -> str | nn.Module:
        return 'head.fc' if name_only else self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None):
        """Replace the classifier; the pooling changes only if `global_pool` is given."""
        dd = get_device_dtype(self)
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, in_features=self.num_features, **dd)
        self.head_hidden_size = self.head.num_features

    def prune_intermediate_layers(
            self,
            indices: int | list[int] = 1,
            prune_norm: bool = False,
            prune_head: bool = True,
    ) -> list[int]:
        """Remove layers that the features at `indices` do not need; return the indices, counted from the start."""
        take_indices, max_index = feature_take_indices(len(self.feature_info), indices)
        prune_end = max_index < len(self.stages)
        for index in range(max_index, len(self.stages)):
            setattr(self, f'layer{index + 1}', nn.Sequential())
        if prune_norm or prune_end:
            self.norm, self.act = nn.Identity(), nn.Identity()
        if prune_end:
            self.num_features = self.head_hidden_size = self.feature_info[max_index]['num_chs']
        if prune_head or prune_end:
            self.reset_classifier(0, '')
        return take_indices

    def _stage(self, stage: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        return checkpoint_seq(stage, x) if self.grad_checkpointing else stage(x)

    def forward_intermediates(
            self,
            x: torch.Tensor,
            indices: int | list[int] | None = None,
            norm: bool = False,
            stop_early: bool = False,
            output_fmt: str = 'NCHW',
            intermediates_only: bool = False,
    ) -> list[torch.Tensor] | tuple[torch.Tensor, list[torch.Tensor]]:
        """Return features of the stem (index 0) and of the stages, and the final features if requested.

        Args:
            x: Images.
            indices: Indices of the features; an integer n for the last n features, None for all.
            norm: Apply the final norm and activation to the last stage's feature.
            stop_early: Skip the stages after the last requested feature.
            output_fmt: Must be 'NCHW'.
            intermediates_only: Return only the list of features, without the final features.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f'output_fmt={output_fmt!r} must be NCHW.')
        take_indices, max_index = feature_take_indices(len(self.feature_info), indices)
        x = self.act1(self.bn1(self.conv1(x)))
        features = [x]
        for stage in self.stages[:max_index] if stop_early else self.stages:
            x = self._stage(stage, x)
            features.append(x)
        if len(features) == len(self.feature_info):
            x = self.act(self.norm(x))
            if norm:
                features[-1] = x
        intermediates = [features[index] for index in sorted(take_indices)]
        return intermediates if intermediates_only else (x, intermediates)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = self._stage(stage, x)
        return self.act(self.norm(x))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))
