"""The full-size network with what a sub-network drops at zero: what the sub-network is checked against."""
import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ...upstream import foreach_copy_
from ..plan import Plan
from ..subnet import Subnet


@torch.no_grad()
def mask(masked: nn.Module, network: nn.Module, plan: Plan, subnet: Subnet) -> None:
    """Makes a copy of a network hold its parameters and statistics, with zeros for those that are dropped.

    Args:
        masked: A copy of `network`.
        network: A network of plain modules.
        plan: Its plan.
        subnet: The sub-network; without skipped blocks.
    """
    tensors, whole = _tensors(masked), _tensors(network)
    foreach_copy_(list(tensors.values()), list(whole.values()))
    for name, dims in plan.ranges(subnet).items():
        for dim, runs in enumerate(dims):
            if runs is not None:
                dropped = torch.ones(tensors[name].shape[dim], dtype=torch.bool, device=tensors[name].device)
                for start, length in runs:
                    dropped[start:start + length] = False
                tensors[name].index_fill_(dim, dropped.nonzero().flatten(), 0)


def _tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    return dict([*network.named_parameters(), *network.named_buffers()])


def masked_forward(
        network: nn.Module,
        plan: Plan,
        subnet: Subnet,
        image: torch.Tensor,
        masked: nn.Module | None = None,
):
    """The full-size network's outputs where what `subnet` drops is zero, and no statistic counts it.

    Args:
        network: A network of plain modules in evaluation mode.
        plan: Its plan.
        subnet: The sub-network; without skipped blocks.
        image: The input [N, C, H, W].
        masked: A copy of `network` to mask; made where it is None.
    """
    masked = copy.deepcopy(network) if masked is None else masked
    masked.train().eval()  # which empties caches
    mask(masked, network, plan, subnet)
    with KeptStatistics():
        return masked(image)


class KeptStatistics(TorchFunctionMode):
    """Means, variances and normalisations over channels leave out those whose weight is zero, or that are all zeros."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        replacement = REPLACED.get(func)
        return func(*args, **(kwargs or {})) if replacement is None else replacement(func, *args, **(kwargs or {}))


def _there(x: torch.Tensor, dim: int, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Indexes of the entries of a dimension that the sub-network has."""
    there = x.movedim(dim, 0).reshape(x.shape[dim], -1).ne(0).any(1) if weight is None else weight.ne(0)
    return there.nonzero().flatten()


def _on(there: torch.Tensor, x: torch.Tensor, dim: int, function: Callable[[torch.Tensor], torch.Tensor]):
    """What a function makes of some entries of a dimension; zeros in the others."""
    return torch.zeros_like(x).index_copy(dim, there, function(x.index_select(dim, there)))


def _of(tensor: torch.Tensor | None, there: torch.Tensor) -> torch.Tensor | None:
    return None if tensor is None else tensor[there]


def _layer_norm(func, x, normalized_shape, weight=None, bias=None, *args, **kwargs):
    if len(normalized_shape) != 1:
        return func(x, normalized_shape, weight, bias, *args, **kwargs)
    there = _there(x, -1, weight)
    return _on(there, x, -1, lambda x: func(
        x, (len(there),), _of(weight, there), _of(bias, there), *args, **kwargs))


def _rms_norm(func, x, normalized_shape, weight=None, *args, **kwargs):
    there = _there(x, -1, weight)
    return _on(there, x, -1, lambda x: func(x, (len(there),), _of(weight, there), *args, **kwargs))


def _group_norm(func, x, num_groups, weight=None, bias=None, *args, **kwargs):
    if num_groups > 1:  # a group stays whole
        return func(x, num_groups, weight, bias, *args, **kwargs)
    there = _there(x, 1, weight)
    return _on(there, x, 1, lambda x: func(x, 1, _of(weight, there), _of(bias, there), *args, **kwargs))


def _batch_norm(func, x, running_mean, running_var, *args, **kwargs):
    """Without running statistics it standardises weights [1, out, in * k * k]: over the inputs that are there."""
    if running_mean is not None or x.dim() != 3:
        return func(x, running_mean, running_var, *args, **kwargs)
    return _on(_there(x, 2), x, 2, lambda x: func(x, None, None, *args, **kwargs))


def _statistic(func, x, dim=None, *args, **kwargs):
    for one in () if dim is None else [dim] if isinstance(dim, int) else dim:
        there = _there(x, one)
        x = x.index_select(one, there) if len(there) else x
    return func(x, *args, **kwargs) if dim is None else func(x, dim, *args, **kwargs)


REPLACED: dict[Callable, Callable] = {
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    F.batch_norm: _batch_norm,
    **dict.fromkeys((
        torch.mean, torch.Tensor.mean, torch.var, torch.Tensor.var, torch.std, torch.Tensor.std, torch.var_mean,
        torch.std_mean), _statistic),
}
