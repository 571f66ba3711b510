"""How many graphs --torchcompile makes in a run."""
from typing import Any

from torch.utils.data import IterableDataset

from ...task.compile_limit import Shape, count_graphs
from ...task.settings import GradAugSettings
from ..arguments.settings import TrainSettings
from .loaders import Loaders


def expected_graphs(
        args: TrainSettings,
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


def _train_shapes(args: TrainSettings, loader: Any, input_size: tuple[int, int, int]) -> set[Shape]:
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
