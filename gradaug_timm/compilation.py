"""torch.compile makes a graph for every sub-network and shape of the batch: how many it may make, and has made."""
from collections.abc import Iterable

import torch

from .sampling import images_seen, width_grid
from .settings import GradAugSettings
from .transforms import output_size

USUAL_LIMIT = 8  # torch's own
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


def allow_graphs(number: int, *, at_least: bool = False) -> None:
    """Lets torch.compile make so many graphs of a network, and raise an error at one more instead of running eagerly.

    Args:
        number: Graphs; torch's own limit where that is higher.
        at_least: Leave a higher limit as it is.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(number, config.recompile_limit if at_least else USUAL_LIMIT)
    config.accumulated_recompile_limit = max(number, config.accumulated_recompile_limit)
    config.fail_on_recompile_limit_hit = True


def graphs_made() -> int:
    """How many graphs torch.compile has made in this process."""
    return torch._dynamo.utils.counters['stats']['unique_graphs']


def graph_breaks() -> int:
    """How often it has left a part of what it compiled to Python."""
    return sum(torch._dynamo.utils.counters['graph_break'].values())
