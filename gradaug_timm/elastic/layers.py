"""Layers that run on the first of their channels while a sub-network is active.

A layer of the network is given one of these classes in place of its own (`module.__class__ = ...`), so parameters,
buffers and keys stay what they are. With `kept` at None it is its plain class. The slicing is part of `forward`, where
torch.compile sees it.
"""
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BlurPool2d, GroupNorm, register_notrace_module
from timm.layers.linear import Linear
from torch import nn
from torch.nn.modules._functions import SyncBatchNorm as sync_batch_norm
from torchvision.ops import FrozenBatchNorm2d

Ranges = tuple[tuple[int, int], ...]  # (start, length) of each run of kept channels


class Kept(NamedTuple):
    """What a layer keeps while a sub-network is active; None stands for all channels."""
    inp: Ranges | None = None
    out: Ranges | None = None
    groups: int = 1
    statistics: tuple[torch.Tensor, torch.Tensor] | None = None  # recalibrated mean and variance of the kept channels


def narrow(tensor: torch.Tensor, dim: int, ranges: Ranges | None) -> torch.Tensor:
    """The kept entries of a dimension: a view where they are one run."""
    if ranges is None:
        return tensor
    runs = [tensor.narrow(dim, start, length) for start, length in ranges]
    return runs[0] if len(runs) == 1 else torch.cat(runs, dim)


def count(ranges: Ranges | None, channels: int) -> int:
    return channels if ranges is None else sum(length for _, length in ranges)


class Elastic:
    """What elastic classes share.

    `plain` is the class that the module had; `sides` counts its input (None: the same as its output) and output
    channels; `keep` says what it needs to know of a sub-network, given the kept runs of these (None: nothing changes);
    `shrink` makes that selection permanent, in place.
    """
    plain: type[nn.Module]
    kept: Kept | None = None

    def __getstate__(self):
        return {**vars(self), 'kept': None}  # a copy or a pickle is the full network

    def sides(self) -> tuple[int | None, int]:
        raise NotImplementedError

    def keep(self, inp: Ranges | None, out: Ranges | None) -> Kept | None:
        return None if inp is None and out is None else Kept(inp, out)

    def shrink(self, kept: Kept) -> None:
        raise NotImplementedError

    def _shrink_parameter(self, name: str, dim: int, ranges: Ranges | None) -> None:
        tensor = getattr(self, name)
        if tensor is not None and ranges is not None:
            kept = narrow(tensor.detach(), dim, ranges).clone()
            setattr(self, name, nn.Parameter(kept, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else kept)


class ElasticConv2d(Elastic, nn.Conv2d):
    plain = nn.Conv2d

    def sides(self):
        return self.in_channels, self.out_channels

    def keep(self, inp, out):
        if inp is None and out is None:
            return None
        if self.groups == 1:
            return Kept(inp, out)
        return Kept(None, out, count(inp, self.in_channels) * self.groups // self.in_channels)

    def forward(self, x):
        kept = self.kept
        if kept is None:
            return super().forward(x)
        weight = narrow(narrow(self.weight, 0, kept.out), 1, kept.inp)
        bias = None if self.bias is None else narrow(self.bias, 0, kept.out)
        padding = self.padding
        if self.padding_mode != 'zeros':
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, kept.groups)

    def shrink(self, kept):
        self.in_channels = self.in_channels // self.groups * kept.groups if self.groups > 1 else (
            count(kept.inp, self.in_channels))
        self.out_channels = count(kept.out, self.out_channels)
        self.groups = kept.groups
        self._shrink_parameter('weight', 0, kept.out)
        self._shrink_parameter('weight', 1, kept.inp)
        self._shrink_parameter('bias', 0, kept.out)


class _ElasticLinear(Elastic):
    def sides(self):
        return self.in_features, self.out_features

    def forward(self, x):
        kept = self.kept
        if kept is None:
            return super().forward(x)
        bias = None if self.bias is None else narrow(self.bias, 0, kept.out)
        return F.linear(x, narrow(narrow(self.weight, 0, kept.out), 1, kept.inp), bias)

    def shrink(self, kept):
        self.in_features, self.out_features = count(kept.inp, self.in_features), count(kept.out, self.out_features)
        self._shrink_parameter('weight', 0, kept.out)
        self._shrink_parameter('weight', 1, kept.inp)
        self._shrink_parameter('bias', 0, kept.out)


class ElasticLinear(_ElasticLinear, nn.Linear):
    plain = nn.Linear


class ElasticTimmLinear(_ElasticLinear, Linear):
    plain = Linear


class ElasticNorm(Elastic):
    """A normalisation with one weight, bias and statistic for each channel."""

    def keep(self, inp, out):
        return Kept(None, out)  # also where every channel stays: a sub-network never touches running statistics

    def _affine(self, kept: Kept) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return tuple(None if value is None else narrow(value, 0, kept.out) for value in (self.weight, self.bias))


class _ElasticBatchNorm(ElasticNorm):
    """The batch's own statistics in training; running or recalibrated ones, never changed, in evaluation."""

    def sides(self):
        return None, self.num_features

    def _running(self, kept: Kept) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if self.training or self.running_mean is None:
            return None, None
        if kept.statistics is not None:
            return tuple(statistic.to(self.running_mean) for statistic in kept.statistics)
        return narrow(self.running_mean, 0, kept.out), narrow(self.running_var, 0, kept.out)

    def forward(self, x):
        kept = self.kept
        if kept is None:
            return super().forward(x)
        mean, variance = self._running(kept)
        return F.batch_norm(x, mean, variance, *self._affine(kept), mean is None, 0.0, self.eps)

    def shrink(self, kept):
        self.num_features = count(kept.out, self.num_features)
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            self._shrink_parameter(name, 0, kept.out)
        if kept.statistics is not None:
            self.running_mean, self.running_var = (
                new.to(old) for new, old in zip(kept.statistics, (self.running_mean, self.running_var)))


class ElasticBatchNorm2d(_ElasticBatchNorm, nn.BatchNorm2d):
    plain = nn.BatchNorm2d


class ElasticSyncBatchNorm(_ElasticBatchNorm, nn.SyncBatchNorm):
    plain = nn.SyncBatchNorm

    def forward(self, x):
        kept = self.kept
        if kept is None or not (self.training and dist.is_available() and dist.is_initialized()):
            return super().forward(x)
        group = self.process_group or dist.group.WORLD
        world_size = dist.get_world_size(group)
        if world_size == 1:
            return super().forward(x)
        weight, bias = self._affine(kept)
        return sync_batch_norm.apply(x.contiguous(), weight, bias, None, None, self.eps, 0.0, group, world_size)


class ElasticFrozenBatchNorm2d(ElasticNorm, FrozenBatchNorm2d):
    plain = FrozenBatchNorm2d

    def sides(self):
        return None, self.weight.shape[0]

    def forward(self, x):
        kept = self.kept
        if kept is None:
            return super().forward(x)
        mean, variance = narrow(self.running_mean, 0, kept.out), narrow(self.running_var, 0, kept.out)
        return F.batch_norm(x, mean, variance, *self._affine(kept), False, 0.0, self.eps)

    def shrink(self, kept):
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            self._shrink_parameter(name, 0, kept.out)


class _ElasticGroupNorm(ElasticNorm):
    def sides(self):
        return None, self.num_channels

    def keep(self, inp, out):
        groups = count(out, self.num_channels) * self.num_groups // self.num_channels
        return None if out is None else Kept(None, out, groups)

    def forward(self, x):
        kept = self.kept
        if kept is None:
            return super().forward(x)
        return F.group_norm(x, kept.groups, *self._affine(kept), self.eps)

    def shrink(self, kept):
        self.num_channels, self.num_groups = count(kept.out, self.num_channels), kept.groups
        self._shrink_parameter('weight', 0, kept.out)
        self._shrink_parameter('bias', 0, kept.out)


class ElasticGroupNorm(_ElasticGroupNorm, nn.GroupNorm):
    plain = nn.GroupNorm


class ElasticTimmGroupNorm(_ElasticGroupNorm, GroupNorm):
    plain = GroupNorm


class ElasticBlurPool2d(Elastic, BlurPool2d):
    plain = BlurPool2d

    def sides(self):
        return None, self.filt.shape[0]

    def forward(self, x):
        kept = self.kept
        if kept is None:
            return super().forward(x)
        padded = F.pad(x, self.padding, mode=self.pad_mode)
        return F.conv2d(padded, narrow(self.filt, 0, kept.out), stride=self.stride, groups=x.shape[1])

    def shrink(self, kept):
        self.channels = count(kept.out, self.channels)
        self._shrink_parameter('filt', 0, kept.out)


LAYERS: dict[type[nn.Module], type[Elastic]] = {}


def register_layer(elastic: type[Elastic]) -> type[Elastic]:
    """Class decorator: modules of class `elastic.plain` are sliced by it. torch.fx takes them as they are."""
    LAYERS[elastic.plain] = register_notrace_module(elastic)
    return elastic


for _layer in (
        ElasticConv2d, ElasticLinear, ElasticTimmLinear, ElasticBatchNorm2d, ElasticSyncBatchNorm,
        ElasticFrozenBatchNorm2d, ElasticGroupNorm, ElasticTimmGroupNorm, ElasticBlurPool2d,
):
    register_layer(_layer)
