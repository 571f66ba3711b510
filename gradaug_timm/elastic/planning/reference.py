"""The masked full-size network: dropped channels are zero. Sub-networks are validated against it."""
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
    """Copy the parameters and statistics of `network` into `masked`, with zeros for those that are dropped.

    Args:
        masked: A copy of `network`.
        network: A network of plain modules.
        plan: The plan of the network.
        subnet: The sub-network, without skipped blocks.
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
    """Return the outputs of the full-size network with dropped channels at zero and left out of all statistics.

    Args:
        network: A network of plain modules in evaluation mode.
        plan: The plan of the network.
        subnet: The sub-network, without skipped blocks.
        image: The input [N, C, H, W].
        masked: A copy of `network` to mask; None to make one.
    """
    masked = copy.deepcopy(network) if masked is None else masked
    masked.train().eval()  # switching modes clears caches
    mask(masked, network, plan, subnet)
    with KeptStatistics():
        return masked(image)


class KeptStatistics(TorchFunctionMode):
    """Mode in which means, variances and norms over channels leave out channels whose weight or values are zero."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        replacement = REPLACED.get(func)
        return func(*args, **(kwargs or {})) if replacement is None else replacement(func, *args, **(kwargs or {}))


def _there(x: torch.Tensor, dim: int, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the indexes of the entries of a dimension that the sub-network keeps."""
    there = x.movedim(dim, 0).reshape(x.shape[dim], -1).ne(0).any(1) if weight is None else weight.ne(0)
    return there.nonzero().flatten()


def _on(there: torch.Tensor, x: torch.Tensor, dim: int, function: Callable[[torch.Tensor], torch.Tensor]):
    """Apply a function to some entries of a dimension, and return zeros for the others."""
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
    if num_groups > 1:  # groups are kept or dropped whole
        return func(x, num_groups, weight, bias, *args, **kwargs)
    there = _there(x, 1, weight)
    return _on(there, x, 1, lambda x: func(x, 1, _of(weight, there), _of(bias, there), *args, **kwargs))


def _batch_norm(func, x, running_mean, running_var, *args, **kwargs):
    """Run batch_norm; as weight standardisation ([1, out, in * k * k], no running statistics) over kept inputs only."""
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
