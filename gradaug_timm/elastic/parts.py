"""Kept parts of parameters as leaves of the autograd graph, with gradients of the same small size.

If a pass were differentiated by the whole parameter instead, autograd would fill a tensor of the parameter's full size
with zeros for each slice.
"""
from typing import NamedTuple

import torch
from torch import nn

from ..upstream import own_parameters
from .network import elastic_state
from .slicing import Cut


class Part(NamedTuple):
    """Kept part of a parameter.

    Attributes:
        parameter: The parameter.
        cut: The slices that are kept.
        leaf: The kept part; it shares the memory of the parameter, but not the autograd graph.
    """
    parameter: torch.Tensor
    cut: Cut
    leaf: torch.Tensor

    def add(self, gradient: torch.Tensor, total: torch.Tensor) -> None:
        """Add the gradient of the leaf to `total`, the gradient of the whole parameter, in place."""
        self.cut.of(total).add_(gradient)


def show_parts(model: nn.Module) -> list[Part]:
    """Replace the kept parts of parameters by leaves while a sub-network is active, and return these parts.

    Only parts that are views are replaced. Until the activation ends, gradients reach the leaves and not the
    parameters. Use it for eager passes that are differentiated before the activation ends and that do not run layers
    again (activation checkpointing).

    Args:
        model: An elastic network that runs as a sub-network.
    """
    return [part for module in elastic_state(model)[1].modules for part in _show_parts(module)]


def _show_parts(module: nn.Module) -> list[Part]:
    kept, parameters, parts = vars(module)['kept'], own_parameters(module), {}
    for name, cut in kept.items():
        parameter = parameters.get(name)
        if parameter is not None and parameter.requires_grad and cut.is_view:
            parts[name] = Part(parameter, cut, cut.of(parameter.detach()).requires_grad_())
    if parts:
        vars(module)['kept'] = {**kept, **{name: part.leaf for name, part in parts.items()}}
    return list(parts.values())
