"""The nearest tensors that a tensor was computed from, whose channels are known."""
import torch
from torch.autograd.graph import GradientEdge

from .dependencies import Dependency, Kind
from .trace import Leaf, Use


class Upstream:
    """Finds leaves in the graph of a probed network; differentiation may stop at what layers used before.

    Without that a residual stream would depend on all layers before, and planning take a time quadratic in depth.

    Args:
        leaves: The constants and parameters of the network.
    """

    def __init__(self, leaves: list[Leaf]):
        self._leaves = {id(leaf.tensor): leaf for leaf in leaves}
        self._stops: dict[tuple, Leaf] = {}

    def of(self, x: torch.Tensor) -> list[Leaf]:
        """The leaves and stops that `x` was computed from, without what is behind the stops."""
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
        """Lets differentiation stop at what a layer used, if all that is known of channels is in that dimension.

        Args:
            use: The use; its tensor is a copy of what was used.
            leaves: What it was computed from.
            dependencies: What it depends on.
        """
        clear = all(found.kind is Kind.PARTIAL and len(set(found.users.tolist())) == len(found.users)
                    for found in dependencies)
        edge = use.tensor.grad_fn.next_functions[0]
        if dependencies and clear and any(leaf.is_output for leaf in leaves) and not hasattr(edge[0], 'variable'):
            keys = tuple(use.key if dim == use.dim else None for dim in range(use.tensor.dim()))
            self._stops.setdefault(edge, Leaf(GradientEdge(*edge), keys, True, use.tensor.shape))
