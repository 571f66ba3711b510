"""torch.compile makes a graph for every sub-network and shape of the batch: how many it may make, and has made."""
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .sampling import images_seen, width_grid
from .settings import GradAugSettings
from .transforms import output_size

Shape = tuple[int, int, int]  # images, height and width of a batch


def count_graphs(settings: GradAugSettings, shapes: Iterable[Shape]) -> int:
    """The most graphs that training makes: for each shape the full network's, and one for each width at each size.

    Args:
        settings: Settings of GradAug, with widths on a grid.
        shapes: The shapes of training batches.
    """
    shapes = set(shapes)
    subnets = {
        (width, images_seen(images, settings.batch_fraction), output_size(size, height, long))
        for images, height, long in shapes for size in settings.sizes for width in width_grid(settings)}
    return len(shapes) + (len(subnets) if settings.subnets else 0)


def graphs_made() -> int:
    """How many graphs torch.compile has made in this process."""
    return torch._dynamo.utils.counters['stats']['unique_graphs']


def graph_breaks() -> int:
    """How often it has left a part of what it compiled to Python."""
    return sum(torch._dynamo.utils.counters['graph_break'].values())


def most_alike(network: nn.Module) -> int:
    """The most modules that share a `forward`: where they break a network, each of them has graphs of that function."""
    return max(Counter(type(module).forward for module in network.modules()).values())


class GraphLimit:
    """How many graphs torch.compile may make of one function for a network; one more is an error, never run eagerly.

    torch counts the graphs of a function, which all networks of the process share: those of others are added.

    Args:
        number: Graphs of this network.
    """

    def __init__(self, number: int):
        self.number = number
        self.made = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The limit, or that of an outer one where it is higher; torch's settings are restored in the end."""
        config, before = torch._dynamo.config, graphs_made()
        limit = self.number + before - self.made
        if config.fail_on_recompile_limit_hit:  # else it means nothing: importing timm.optim sets it to a million
            limit = max(limit, config.recompile_limit)
        try:
            with config.patch(
                    recompile_limit=limit,
                    accumulated_recompile_limit=max(limit, config.accumulated_recompile_limit),
                    fail_on_recompile_limit_hit=True,
            ):
                yield
        finally:
            self.made += graphs_made() - before
