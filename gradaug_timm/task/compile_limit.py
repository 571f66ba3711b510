"""The limit on graphs of torch.compile, which needs one for each sub-network and shape of the batch."""
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from ..upstream import graph_breaks, graphs_made, recompile_limit, recompile_limit_error, recompile_limited
from .sampling import images_seen, possible_transforms, width_grid
from .settings import GradAugSettings

_logger = logging.getLogger(__name__)

Shape = tuple[int, int, int]  # images, height and width of a batch


def count_graphs(settings: GradAugSettings, shapes: Iterable[Shape]) -> int:
    """Return the most graphs that training needs: one for the full network and one for each width at each size.

    Args:
        settings: Settings of GradAug, with widths on a grid.
        shapes: The shapes of training batches.
    """
    shapes, transforms = set(shapes), list(possible_transforms(settings))
    seen = {(images_seen(images, settings.batch_fraction), transform.output_size(height, width))
            for images, height, width in shapes for transform in transforms}
    return len(shapes) + (len(seen) * len(set(width_grid(settings))) if settings.subnets else 0)


def most_alike(network: nn.Module) -> int:
    """Return the most modules that share a `forward`: if they break a network, each has graphs of that function."""
    return max(Counter(type(module).forward for module in network.modules()).values())


class GraphLimit:
    """Limit on the graphs of one function for a network; one graph more is an error, never eager execution.

    torch counts the graphs of a function, which all networks of the process share: those of others are added.

    Args:
        number: Graphs of this network.
    """

    def __init__(self, number: int):
        self.number = number
        self.made = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the limit, or a higher one of an outer context; torch's settings are restored at the end."""
        before = graphs_made()
        outer = recompile_limit() or 0  # None where it means nothing: importing timm.optim sets it to a million
        try:
            with recompile_limited(max(self.number + before - self.made, outer)):
                yield
        finally:
            self.made += graphs_made() - before


class CompilationError(RuntimeError):
    """Error: torch.compile needs more graphs than the run has networks and shapes."""


class Compilation:
    """Monitor of the graphs that torch.compile makes.

    Args:
        expected: The most graphs that the run needs of a network that isn't broken into several.
        alike: How many modules of the network share their code; where a network is broken, torch counts their graphs
            as those of one function.
    """

    def __init__(self, expected: int, alike: int = 1):
        self.expected = expected
        self._limit = GraphLimit(expected * alike)
        self._before, self._breaks_before, self._reported = graphs_made(), graph_breaks(), -1
        _logger.info(f'--torchcompile: at most {expected} graphs are to be compiled.')

    @property
    def made(self) -> int:
        """Graphs made since the start."""
        return graphs_made() - self._before

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Apply the limit; raise an error of one line if torch.compile needs more graphs.

        Raises:
            CompilationError: There would.
        """
        try:
            with self._limit.applied():
                yield
        except recompile_limit_error() as error:
            raise CompilationError(
                f'--torchcompile: after {self.made} graphs the network needs another, though networks and shapes make '
                f'{self.expected}: it depends on something else that changes (TORCH_LOGS=recompiles tells); leave '
                '--torchcompile out') from error

    def report(self, when: str) -> None:
        """Log how many graphs there are, if some are new, and whether they contain the whole network."""
        if self.made == self._reported:
            return
        self._reported = self.made
        breaks = graph_breaks() - self._breaks_before
        if breaks:
            _logger.warning(
                f'--torchcompile: {self.made} graphs are compiled {when}; the network breaks into several '
                f'(graph breaks: {breaks}), and what is between them runs in Python (TORCH_LOGS=graph_breaks tells).')
            return
        level = logging.INFO if self.made else logging.WARNING
        _logger.log(
            level, f'--torchcompile: {self.made} of at most {self.expected} graphs are compiled {when}.')
