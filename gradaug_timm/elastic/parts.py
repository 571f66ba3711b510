"""The kept parts of parameters as leaves of the graph, whose gradients are as small as they are.

Differentiated by the parameter, a kept part costs a tensor of zeros of the parameter's size for each of its cuts.
"""
from typing import NamedTuple

import torch
from torch import nn

from ..upstream import own_parameters
from .network import elastic_state
from .slicing import Cut


class Part(NamedTuple):
    """The kept part of a parameter.

    Attributes:
        parameter: The parameter.
        cut: What of it is kept.
        leaf: That part; it shares the parameter's memory, but not its graph.
    """
    parameter: torch.Tensor
    cut: Cut
    leaf: torch.Tensor

    def add(self, gradient: torch.Tensor, total: torch.Tensor) -> None:
        """Adds the leaf's gradient to the parameter's, in place."""
        self.cut.of(total).add_(gradient)


def show_parts(model: nn.Module) -> list[Part]:
    """Gives the active sub-network leaves for the kept parts of its parameters, where such a part is a view.

    Until its activation ends gradients reach the leaves, not the parameters. For eager passes that are differentiated
    in that time and don't run layers again (activation checkpointing).

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
