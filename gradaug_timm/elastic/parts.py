"""Kept parts of parameters as leaves of the autograd graph, with gradients of the same small size.

If a pass were differentiated by the whole parameter instead, autograd would fill a tensor of the parameter's full size
with zeros for each slice.
"""
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from ..upstream import PARAMETER_CACHES, own_parameters
from .network import ATTRIBUTE, unwrap
from .slicing import Cut
from .state import ElasticState
from .subnet import Subnet
from .swap import View

MOST = 64  # sub-networks whose parts are kept; with continuous widths none is drawn again


class Part(NamedTuple):
    """Kept part of a parameter.

    Attributes:
        parameter: The parameter.
        cut: The slices that are kept.
        leaf: The kept part; it shares the memory of the parameter, but not the autograd graph.
        place: Size, stride and offset of the part in a tensor that lies in memory as the parameter does.
    """
    parameter: torch.Tensor
    cut: Cut
    leaf: torch.Tensor
    place: tuple[torch.Size, tuple[int, ...], int]

    def of(self, total: torch.Tensor) -> torch.Tensor:
        """Return the place of the leaf's gradient in `total`, the gradient of the whole parameter."""
        if total.stride() == self.parameter.stride():
            size, stride, offset = self.place
            return total.as_strided(size, stride, total.storage_offset() + offset)
        return self.cut.of(total)


@dataclass(frozen=True)
class _Shown:
    """What modules keep while parts are shown, and the parameters on which that depends."""

    view: View
    kept: list[tuple[nn.Module, dict[str, object]]]
    parts: list[Part]
    parameters: list[tuple[dict[str, Any], str, torch.Tensor, bool, int]]  # holder, name, itself, trained, memory

    def is_current(self, view: View) -> bool:
        return view is self.view and all(
            holder.get(name) is parameter and parameter.requires_grad is trained and parameter.data_ptr() == memory
            for holder, name, parameter, trained, memory in self.parameters)


class PartCache:
    """The parts of sub-networks from step to step; it belongs to the training, because it holds weights in memory."""

    def __init__(self):
        self._shown: dict[Subnet, _Shown] = {}

    def find(self, subnet: Subnet, view: View) -> _Shown:
        """Return what is shown for a sub-network."""
        found = self._shown.get(subnet)
        if found is None or not found.is_current(view):
            if len(self._shown) >= MOST:
                self._shown.clear()
            found = self._shown[subnet] = _make(view)
        return found


def show_parts(model: nn.Module, cache: PartCache | None = None) -> list[Part]:
    """Replace the kept parts of parameters by leaves while a sub-network is active, and return these parts.

    Only parts that are views are replaced. Until the activation ends, gradients reach the leaves and not the
    parameters. Use it for eager passes that are differentiated before the activation ends and that do not run layers
    again (activation checkpointing).

    Args:
        model: An elastic network that runs as a sub-network.
        cache: Parts of earlier steps.
    """
    network = unwrap(model)
    state: ElasticState | None = vars(network).get(ATTRIBUTE)
    if state is None or state.active is None:
        return []
    shown = (cache or PartCache()).find(state.active, state.view(network, state.active))
    for module, kept in shown.kept:
        for key in kept.keys() & PARAMETER_CACHES:
            kept[key] = {}
        vars(module)['kept'] = kept
    return shown.parts


def _make(view: View) -> _Shown:
    shown = _Shown(view, [], [], [])
    for module, kept in view:
        own, leaves = own_parameters(module), {}
        for name, cut in kept.items():
            parameter = own.get(name)
            if parameter is None or not isinstance(cut, Cut) or not cut.is_view:
                continue
            shown.parameters.append((own, name, parameter, parameter.requires_grad, parameter.data_ptr()))
            if parameter.requires_grad:
                leaf = cut.of(parameter.detach())
                offset = leaf.storage_offset() - parameter.storage_offset()
                place = leaf.size(), leaf.stride(), offset
                shown.parts.append(Part(parameter, cut, leaf.requires_grad_(), place))
                leaves[name] = leaf
        if leaves:
            shown.kept.append((module, {**kept, **leaves}))
    return shown
