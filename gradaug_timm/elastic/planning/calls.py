"""Replacements of torch's functions while a network is probed: layers, norms, activations, reshapes and splits."""
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .numbers import TrackedInt, tracked
from .trace import Sized


def _linear(probe, func, input, weight, bias=None):
    return probe.layer(func, input, weight, bias, dim=-1)


def _conv(probe, func, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    def conv(x, w, b, *_, **__):
        return func(x, w, b, stride, padding, dilation, groups)
    return probe.layer(conv, input, weight, bias, dim=1, groups=groups)


def _conv_transpose(probe, func, input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    def conv(x, w, b, *_, **__):
        return func(x, w, b, stride, padding, output_padding, groups, dilation)
    return probe.layer(conv, input, weight, bias, dim=1, groups=groups, transposed=True)


def _batch_norm(probe, func, input, running_mean, running_var, weight=None, bias=None, *args, **kwargs):
    return probe.norm(input, 1, weight, bias, running_mean, running_var)


def _layer_norm(probe, func, input, normalized_shape, weight=None, bias=None, *args, **kwargs):
    if len(normalized_shape) != 1:
        return func(input, normalized_shape, weight, bias, *args, **kwargs)
    for number in tracked(normalized_shape):
        if input.requires_grad:
            probe.seen.sized.append(Sized(number, input.clone(), input.dim() - 1))
    return probe.norm(input, -1, weight, bias)


def _rms_norm(probe, func, input, normalized_shape, weight=None, eps=None):
    return _layer_norm(probe, func, input, normalized_shape, weight)


def _group_norm(probe, func, input, num_groups, weight=None, bias=None, *args, **kwargs):
    x = probe.norm(input, 1, weight, bias)
    if num_groups > 1 and input.requires_grad:
        key = probe._key(weight, 0) if weight is not None else probe._new_key(input.shape[1])
        if weight is None:
            probe._use(input, 1, key)
        probe.tie_blocks(key, num_groups)
        if isinstance(num_groups, TrackedInt):
            probe.seen.sized.append(Sized(num_groups, None, 0, key, input.shape[1] // num_groups))
    return x


def _statistic(probe, func, input, *args, **kwargs):
    return probe.statistic(func, input, *args, **kwargs)


def _prelu(probe, func, input, weight):
    return probe.norm(input, 1, weight)


def _larger(probe, func, input, other=None, *args, **kwargs):
    if isinstance(other, torch.Tensor):  # the result depends on both, whichever is larger now
        return input + other
    return func(input, *args, **kwargs) if other is None else func(input, other, *args, **kwargs)


def _activation(probe, func, input, *args, **kwargs):
    return input.clone()


REPLACED: dict[Callable, Callable] = {
    **dict.fromkeys((
        torch.mean, torch.Tensor.mean, torch.var, torch.Tensor.var, torch.std, torch.Tensor.std, torch.var_mean,
        torch.std_mean), _statistic),
    **dict.fromkeys((  # functions that are flat somewhere, or only scale
        F.normalize, F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.hardshrink, F.threshold, torch.relu,
        torch.relu_, torch.Tensor.relu, torch.Tensor.relu_), _activation),
    **dict.fromkeys((
        torch.max, torch.min, torch.maximum, torch.minimum, torch.Tensor.max, torch.Tensor.min, torch.Tensor.maximum,
        torch.Tensor.minimum), _larger),
    F.linear: _linear,
    F.conv1d: _conv,
    F.conv2d: _conv,
    F.conv3d: _conv,
    F.conv_transpose1d: _conv_transpose,
    F.conv_transpose2d: _conv_transpose,
    F.prelu: _prelu,
    F.batch_norm: _batch_norm,
    F.instance_norm: _batch_norm,
    torch.batch_norm: lambda probe, func, input, weight, bias, mean, var, *_: _batch_norm(
        probe, func, input, mean, var, weight, bias),
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
}

RESHAPING = frozenset({torch.Tensor.reshape, torch.Tensor.view, torch.reshape})
SPLITTING = frozenset({
    torch.Tensor.split, torch.split, torch.Tensor.split_with_sizes, torch.split_with_sizes})
SIZING = RESHAPING | SPLITTING | frozenset({
    torch.Tensor.unflatten, torch.unflatten, torch.tensor_split,
    torch.Tensor.narrow, torch.narrow, torch.Tensor.__getitem__, torch.Tensor.expand,
})
