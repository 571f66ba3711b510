"""The graphs that --torchcompile makes in a run: how many to expect, how many there are, and an error beyond that."""
import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import IterableDataset

from ..compilation import GraphLimit, Shape, count_graphs, graph_breaks, graphs_made
from ..settings import GradAugSettings
from .loaders import Loaders

_logger = logging.getLogger(__name__)


class CompilationError(RuntimeError):
    """torch.compile needs more graphs than the run has networks and shapes."""


class Compilation:
    """Watches torch.compile.

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
        """Graphs made since the beginning."""
        return graphs_made() - self._before

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Applies the limit, and says in one line that there would be too many graphs.

        Raises:
            CompilationError: There would.
        """
        try:
            with self._limit.applied():
                yield
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            raise CompilationError(
                f'--torchcompile: after {self.made} graphs the network needs another, though networks and shapes make '
                f'{self.expected}: it depends on something else that changes (TORCH_LOGS=recompiles tells); leave '
                '--torchcompile out') from error

    def report(self, epoch: int) -> None:
        """Logs how many graphs there are, where an epoch made some, and whether all of the network is in them."""
        if self.made == self._reported:
            return
        self._reported = self.made
        breaks = graph_breaks() - self._breaks_before
        if breaks:
            _logger.warning(
                f'--torchcompile: {self.made} graphs are compiled after epoch {epoch}; the network breaks into several '
                f'(graph breaks: {breaks}), and what is between them runs in Python (TORCH_LOGS=graph_breaks tells).')
            return
        level = logging.INFO if self.made else logging.WARNING
        _logger.log(
            level, f'--torchcompile: {self.made} of at most {self.expected} graphs are compiled after epoch {epoch}.')


def expected_graphs(
        args: argparse.Namespace,
        settings: GradAugSettings | None,
        loaders: Loaders,
        input_size: tuple[int, int, int],
) -> int:
    """The most graphs of a run: one for each network and shape of its batch, in training and in validation.

    Args:
        args: The flags.
        settings: The settings of GradAug; None where it is off.
        loaders: The loaders.
        input_size: Channels, height and width of the images.
    """
    shapes = _train_shapes(args, loaders.train, input_size)
    evaluated = 2 if args.model_ema and not args.model_ema_force_cpu else 1
    validation = set()
    if loaders.validation is not None:
        validation = _batch_sizes(loaders.validation, args.validation_batch_size or args.batch_size, last=True)
    teacher = len(shapes) if args.kd_model_name else 0
    return count_graphs(settings or GradAugSettings(subnets=0), shapes) + teacher + evaluated * len(validation)


def _train_shapes(args: argparse.Namespace, loader: Any, input_size: tuple[int, int, int]) -> set[Shape]:
    if args.train_img_sizes:
        batches = args.train_batch_sizes or [args.batch_size] * len(args.train_img_sizes)
        return {(images, size, size) for images, size in zip(batches, args.train_img_sizes)}
    return {(images, *input_size[1:]) for images in _batch_sizes(loader, args.batch_size, last=args.keep_last_batch)}


def _batch_sizes(loader: Any, batch: int, *, last: bool) -> set[int]:
    """How many images batches may have; the `last` one has fewer, of an iterable data set an unknown number."""
    if not last:
        return {batch}
    if isinstance(loader.dataset, IterableDataset):
        return {batch, 1}
    images = len(loader.sampler)
    return {min(batch, images), images % batch or batch}
