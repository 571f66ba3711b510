"""Search for the nearest upstream tensors whose channels are known."""
import torch
from torch.autograd.graph import GradientEdge

from .dependencies import Dependency, Kind
from .trace import Leaf, Use


class Upstream:
    """Finder of leaves in the graph of a probed network; differentiation stops at inputs of earlier layers.

    Without these stops a residual stream would depend on all layers before, and planning time would be quadratic in
    depth.

    Args:
        leaves: The constants and parameters of the network.
    """

    def __init__(self, leaves: list[Leaf]):
        self._leaves = {id(leaf.tensor): leaf for leaf in leaves}
        self._stops: dict[tuple, Leaf] = {}

    def of(self, x: torch.Tensor) -> list[Leaf]:
        """Return the leaves and stops from which `x` was computed, without those behind a stop."""
        found: dict[int, Leaf] = {}
        seen, pending = set(), [(x.grad_fn, x.output_nr)]
        while pending:
            edge = pending.pop()
            node = edge[0]
            if node is None or edge in seen:
                continue
            seen.add(edge)
            if edge in self._stops:
                found[id(self._stops[edge])] = self._stops[edge]
            elif hasattr(node, 'variable'):
                leaf = self._leaves.get(id(node.variable))
                if leaf is not None:
                    found[id(leaf)] = leaf
            else:
                pending += node.next_functions
        return list(found.values())

    def add_stop(self, use: Use, leaves: list[Leaf], dependencies: list[Dependency]) -> None:
        """Make differentiation stop at the input of a layer, if that dimension contains all information on channels.

        Args:
            use: The use; the tensor in it is a copy of the layer's input.
            leaves: The leaves from which the input was computed.
            dependencies: The dependencies of the input.
        """
        clear = all(found.kind is Kind.PARTIAL and len(set(found.users.tolist())) == len(found.users)
                    for found in dependencies)
        edge = use.tensor.grad_fn.next_functions[0]
        if dependencies and clear and any(leaf.is_output for leaf in leaves) and not hasattr(edge[0], 'variable'):
            keys = tuple(use.key if dim == use.dim else None for dim in range(use.tensor.dim()))
            self._stops.setdefault(edge, Leaf(GradientEdge(*edge), keys, True, use.tensor.shape))
