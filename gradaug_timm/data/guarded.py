"""Errors of reading that are no damaged images: of transforms, labels and data sets as a whole."""
from collections.abc import Callable
from typing import Any

from ..cli import one_line

FROM_WORKER = 'Caught '  # torch adds the traceback of a worker to the message of its error


class ReadingError(ValueError):
    """The error that a data set cannot be read as the settings ask; one line, also from a data worker."""

    def __init__(self, message: str):
        kind = f'{type(self).__name__}: '
        if message.startswith(FROM_WORKER) and kind in message:
            message = message.rpartition(kind)[2].strip()
        super().__init__(message)


class TransformError(ReadingError):
    """The error that a transform fails on an image or a label that was read."""


class Guarded:
    """A transform whose errors are TransformErrors, so that they are not taken for damaged images.

    Args:
        transform: The transform of images or labels.
        what: What is transformed, for the error.
    """

    def __init__(self, transform: Callable, what: str = 'image'):
        self.transform, self.what = transform, what

    def __call__(self, *values) -> Any:
        try:
            return self.transform(*values)
        except ReadingError:
            raise
        except Exception as error:
            raise TransformError(f'{self._describe(values[0])}: {one_line(error, None, kind=True)}') from error

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'transform':  # not there while a copy is made
            raise AttributeError(name)
        return getattr(self.transform, name)

    def _describe(self, value) -> str:
        if self.what != 'image':
            return f'its {self.what} {value!r} does not fit'
        mode, size = getattr(value, 'mode', None), getattr(value, 'size', None)
        shape = f' of mode {mode} and {size[0]}x{size[1]} pixels' if mode and size else ''
        return f'the transforms of the settings fail on it{shape}'


def guard(dataset: Any) -> None:
    """Guard the transforms that a data set, or a wrapper of data sets, has as attributes."""
    for name, what in (('transform', 'image'), ('augmentation', 'image'), ('normalize', 'image'),
                       ('target_transform', 'label')):
        transform = vars(dataset).get(name)
        if transform is not None and not isinstance(transform, Guarded):
            setattr(dataset, name, Guarded(transform, what))
    several = vars(dataset).get('transforms')
    if isinstance(several, tuple):  # of scheduled image sizes
        dataset.transforms = tuple(each if isinstance(each, Guarded) else Guarded(each) for each in several)
