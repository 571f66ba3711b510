"""The flag --confusion-matrix."""
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from ..cli import file_to_write
from ..flags import Role, Settings, setting

PICTURE = '.png'
ENDINGS = (PICTURE, '.csv', '.json')
DEFAULT = f'confusion_matrix{PICTURE}'
MOST_CLASSES = 5000


@dataclass(frozen=True, kw_only=True)
class ConfusionSettings(Settings, title='confusion matrix', role=Role.WRITTEN):
    """Whether a confusion matrix is written at the end of validation."""

    confusion_matrix: str | None = setting(
        None, f'write which classes were taken for which; a .png also gets the counts as .csv and .json '
        f'(default without FILE: {DEFAULT}; train.py puts a name without a folder into the folder of the run)',
        nargs='?', const=DEFAULT, type=file_to_write(*ENDINGS), metavar='FILE')


def confusion_problems(path: str | None, task: str) -> Iterator[str]:
    """Yield a line for each reason why the matrix can't be written."""
    if path is None:
        return
    if task == 'multilabel':
        yield '--confusion-matrix needs one label per image; it does not support --task multilabel'
    if path.endswith(PICTURE) and importlib.util.find_spec('matplotlib') is None:
        yield (f'--confusion-matrix {path} needs the package matplotlib: pip install "gradaug_timm[explain]"; '
               'a .csv or .json needs no package')


def check_confusion(path: str | None, num_classes: int) -> None:
    """Raise ValueError if there are too many classes."""
    if path is not None and num_classes > MOST_CLASSES:
        raise ValueError(f'--confusion-matrix is for up to {MOST_CLASSES} classes, not {num_classes}; leave it out')
