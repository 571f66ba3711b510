"""A trial of one image of a data set: its channels, and each transform on it."""
import copy
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from ..cli import one_line
from ..seeding import kept_state
from .class_names import innermost
from .guarded import Guarded
from .operations import fit_operations, operations_of
from .readable import MOST_IN_A_ROW, ReadableDataset

FLAGS = {  # kinds of transforms -> the flag that asks for them
    'AugmentOp': '--aa', 'AugMixAugment': '--aa', 'RandAugment': '--aa', 'AutoAugment': '--aa',
    'RandomGrayscale': '--grayscale-prob', 'GaussianBlur': '--gaussian-blur-prob', 'ColorJitter': '--color-jitter'}


def first_image(dataset: Dataset) -> Image.Image | None:
    """Return the first image of a data set that can be read, without transforms; None if it holds no images of PIL.

    Raises:
        ValueError: Many images in a row cannot be read.
    """
    source = innermost(dataset)
    if isinstance(source, IterableDataset):
        return getattr(source, 'first_image', None)
    kept = {name: getattr(source, name) for name in ('transform', 'target_transform') if hasattr(source, name)}
    try:
        for name in kept:
            setattr(source, name, _as_it_is)
        image = _first(dataset)
    finally:
        for name, value in kept.items():
            setattr(source, name, value)
    return image if isinstance(image, Image.Image) else None


def check_image(dataset: Dataset, channels: int) -> None:
    """Raise ValueError if the images of a data set have another number of channels than the network takes."""
    image = first_image(dataset)
    if image is None:
        return
    own = len(image.getbands())
    if own != channels:
        raise ValueError(f'the images of {type(innermost(dataset)).__name__} have {own} channel{"s" * (own > 1)} (mode '
                         f'{image.mode}), but the network takes {channels}: use --in-chans {own}')


def try_transforms(dataset: Any) -> None:
    """Try the transforms of training on one image, each operation for itself; random generators keep their state.

    Operations are first fitted to all modes.

    Raises:
        ValueError: A transform does not support images of this mode.
    """
    pipelines = [list(_steps(pipeline)) for pipeline in _pipelines(dataset)]
    for steps in pipelines:
        fit_operations(iter(steps))
    with kept_state():
        image: Any = first_image(dataset)
        if image is None:
            return
        for steps in pipelines:
            for step in steps:
                if not isinstance(image, Image.Image):
                    break  # the rest acts on tensors, whose channels are checked elsewhere
                for trial in _trials(step):
                    changed = _try(trial, image)
                image = changed


def _try(step: Callable, image: Image.Image) -> Any:
    kind = type(step).__name__
    name = getattr(step, 'name', kind)
    try:
        changed = step(image)
        if isinstance(changed, Image.Image) and changed.mode != image.mode:
            raise ValueError(f'it gives images of mode {changed.mode}')
    except Exception as error:
        flag = FLAGS.get(kind)
        what = f'{flag}: {name}' if flag else name
        remedy = f'leave out {flag}' if flag else 'change --input-img-mode'
        if image.mode != 'RGB':
            remedy += ', or use --input-img-mode RGB'
        raise ValueError(f'{what} does not support images of mode {image.mode} and {image.width}x{image.height} pixels '
                         f'({one_line(error, None)}); {remedy}') from error
    return changed


def _trials(step: Any) -> Iterator[Callable]:
    """Yield a step, or all that it may do at random."""
    operations = operations_of(step)
    for operation in operations:
        yield _always(operation, 'prob')
    if operations and not hasattr(step, 'policy') and hasattr(step, 'alpha'):
        yield step  # AugMix also mixes
    elif not operations and hasattr(step, 'transforms'):
        yield from (each for part in step.transforms for each in _trials(part))
    elif not operations:
        yield _always(step, 'p')


def _always(step: Any, name: str) -> Any:
    """Return a copy of a step that acts in any case, if a probability of this name decides about it."""
    if not isinstance(getattr(step, name, None), float):
        return step
    sure = copy.copy(step)
    setattr(sure, name, 1.)
    return sure


def _pipelines(dataset: Any) -> Iterator[Any]:
    """Yield the pipelines of a data set and of its wrappers, those that come first in training first."""
    own = vars(dataset)
    inner = own.get('dataset')
    if isinstance(inner, Dataset):
        yield from _pipelines(inner)
    for name in ('transform', 'augmentation', 'normalize'):
        if own.get(name) is not None:
            yield own[name]
    if isinstance(own.get('transforms'), tuple):  # of scheduled image sizes
        yield own['transforms'][0]


def _steps(pipeline: Any) -> Iterator[Any]:
    """Yield the steps of a pipeline."""
    if isinstance(pipeline, Guarded):
        pipeline = pipeline.transform
    yield from getattr(pipeline, 'transforms', [pipeline])


def _as_it_is(value: Any) -> Any:
    return value


def _first(dataset: Any) -> Any:
    if isinstance(getattr(dataset, 'transforms', None), tuple):  # of scheduled image sizes: indexed by size and number
        return _first(dataset.dataset)
    for index in range(min(len(dataset), MOST_IN_A_ROW)):  # type: ignore[arg-type]
        try:
            item = dataset[index]
        except Exception:  # image libraries raise anything on a broken file
            continue
        return item[0]
    return ReadableDataset(dataset)[0][0]  # its error names the images
