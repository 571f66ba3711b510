"""The full-size network with what a sub-network drops at zero: what the sub-network is checked against."""
import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from .plan import Plan
from .subnet import Subnet


def masked(network: nn.Module, plan: Plan, subnet: Subnet) -> nn.Module:
    """A copy of a network whose dropped parameters and statistics are zeros.

    Args:
        network: A network of plain modules.
        plan: Its plan.
        subnet: The sub-network; without skipped blocks.
    """
    network = copy.deepcopy(network)
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    for name, dims in plan.ranges(subnet).items():
        for dim, runs in enumerate(dims):
            if runs is not None:
                stays = torch.zeros(tensors[name].shape[dim], dtype=torch.bool, device=tensors[name].device)
                for start, length in runs:
                    stays[start:start + length] = True
                with torch.no_grad():
                    tensors[name].index_fill_(dim, (~stays).nonzero().flatten(), 0)
    return network


def masked_forward(network: nn.Module, plan: Plan, subnet: Subnet, image: torch.Tensor):
    """The full-size network's outputs where what `subnet` drops is zero, and no statistic counts it.

    Args:
        network: A network of plain modules in evaluation mode.
        plan: Its plan.
        subnet: The sub-network; without skipped blocks.
        image: The input [N, C, H, W].
    """
    with KeptStatistics():
        return masked(network, plan, subnet)(image)


class KeptStatistics(TorchFunctionMode):
    """Means and variances over channels leave out channels that are zero everywhere."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return REPLACED.get(func, func)(*args, **(kwargs or {}))


def _share(x: torch.Tensor, dim: int, weight: torch.Tensor | None = None) -> torch.Tensor:
    """The share of the entries of a dimension that are there: whose weight isn't zero, else, which aren't all zeros."""
    there = x.movedim(dim, 0).reshape(x.shape[dim], -1).ne(0).any(1) if weight is None else weight.ne(0)
    return there.to(x.dtype).mean()


def _layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    if len(normalized_shape) != 1:
        return F.layer_norm(x, normalized_shape, weight, bias, eps)
    x = x if weight is None else x * weight.ne(0)
    share = _share(x, -1, weight)
    mean = x.mean(-1, keepdim=True) / share
    variance = x.pow(2).mean(-1, keepdim=True) / share - mean ** 2
    return _affine((x - mean) / (variance + eps).sqrt(), weight, bias)


def _rms_norm(x, normalized_shape, weight=None, eps=None):
    x = x if weight is None else x * weight.ne(0)
    square = x.pow(2).mean(-1, keepdim=True) / _share(x, -1, weight)
    return _affine(x / (square + (torch.finfo(x.dtype).eps if eps is None else eps)).sqrt(), weight, None)


def _group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    if num_groups > 1:  # a group stays whole
        return F.group_norm(x, num_groups, weight, bias, eps)
    x = x if weight is None else (x.movedim(1, -1) * weight.ne(0)).movedim(-1, 1)
    dims, share = list(range(1, x.dim())), _share(x, 1, weight)
    mean = x.mean(dims, keepdim=True) / share
    variance = x.pow(2).mean(dims, keepdim=True) / share - mean ** 2
    return _affine(((x - mean) / (variance + eps).sqrt()).movedim(1, -1), weight, bias).movedim(-1, 1)


def _batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Without running statistics it standardises weights [1, out, in * k * k]: over the inputs that are there."""
    if running_mean is not None or x.dim() != 3:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    share = _share(x, 2)
    mean = x.mean(2, keepdim=True) / share
    variance = x.pow(2).mean(2, keepdim=True) / share - mean ** 2
    there = x.ne(0)
    return _affine((((x - mean) / (variance + eps).sqrt()) * there).movedim(1, -1), weight, bias).movedim(-1, 1)


def _affine(x, weight, bias):
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _mean(x, dim=None, keepdim=False, **kwargs):
    if dim is None:
        return x.mean(**kwargs)
    share = 1.
    for one in [dim] if isinstance(dim, int) else dim:
        share = share * _share(x, one).clamp(min=1 / x.shape[one])
    return x.mean(dim, keepdim, **kwargs) / share


REPLACED: dict[Callable, Callable] = {
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    F.batch_norm: _batch_norm,
    torch.mean: _mean,
    torch.Tensor.mean: _mean,
}
