"""Labels of data sets, checked before training: numbers from 0 on, one for each image."""
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from timm.data import MultiLabelTarget
from timm.data.readers.class_map import remap_target
from torch.utils.data import Dataset

from ..upstream import reader_of, source_names
from .class_names import innermost
from .fields import distinct
from .subset import labels_of

SHOWN = 5


def check_values(dataset: Dataset, num_classes: int) -> None:
    """Raise ValueError if labels of a data set are not numbers from 0 to below `num_classes`, one for each image."""
    values = known_labels(dataset)
    if values is None:
        return
    problem = _problem(values, num_classes)
    if problem:
        raise ValueError(problem)


def known_labels(dataset: Dataset) -> list | None:
    """Return the different labels that are known without reading images; None if none are, or for several an image."""
    source = innermost(dataset)
    reader = reader_of(source)
    if _is_encoded(source):
        return None
    if hasattr(source, 'first_labels'):  # of a stream
        return distinct(source.first_labels)
    if hasattr(reader, 'label_key'):
        return _table_labels(reader)
    try:
        targets = labels_of(source, 'the check')
    except ValueError:
        return None
    return distinct(targets.tolist() if isinstance(targets, torch.Tensor) else targets)


def _is_encoded(source: Any) -> bool:
    """Return whether labels become vectors of a task with several labels an image."""
    transform = getattr(source, 'target_transform', None)
    return isinstance(transform, MultiLabelTarget) or isinstance(getattr(transform, 'then', None), MultiLabelTarget)


def _table_labels(reader: Any) -> list:
    """Return the different labels of a table of Hugging Face, after its class map."""
    key, table = reader.label_key, reader.dataset
    if type(table.features.get(key)).__name__ in ('Value', 'ClassLabel'):
        return [remapped(reader, value) for value in table.unique(key)]
    try:
        return distinct(reader.iter_targets())
    except KeyError as error:
        raise _lacks(reader, error.args[0]) from None


def remapped(reader: Any, label: Any) -> Any:
    """Return the label, or labels, of an image after the class map of timm's reader.

    Raises:
        ValueError: The class map lacks the label.
    """
    if not reader.remap_class:
        return label
    try:
        return remap_target(label, reader.class_to_idx, source_names(reader), dense=reader.dense_target)
    except KeyError as error:
        raise _lacks(reader, error.args[0]) from None


def _lacks(reader: Any, label: Any) -> ValueError:
    known = ', '.join(map(str, list(reader.class_to_idx)[:SHOWN]))
    return ValueError(f'--class-map has no label {label!r} of the data set; it begins with {known}')


def number_keys(reader: Any) -> None:
    """Let a class map of numbers, written as text, map labels that are numbers."""
    if not getattr(reader, 'remap_class', False) or source_names(reader):
        return
    mapping = reader.class_to_idx
    if mapping and all(isinstance(key, str) and key.lstrip('-').isdecimal() for key in mapping):
        numbered = {int(key): label for key, label in mapping.items()}
        reader.class_to_idx = numbered if reader.dense_target else {**mapping, **numbered}


def _problem(values: Sequence, num_classes: int) -> str | None:
    """Describe what is wrong with labels; None if nothing is."""
    several = [value for value in values if isinstance(value, (list, tuple, dict))]
    if several:
        return (f'labels such as {_short(several)} are several for an image: use --task multilabel, or name a field '
                'with one label by --target-key')
    missing = [value for value in values if value is None or _is_nan(value)]
    if missing:
        return 'images without a label: some labels are empty; leave these rows out, or name another --target-key'
    text = [value for value in values if isinstance(value, (str, bytes))]
    if text:
        return (f'labels are text such as {_short(text)}: give --class-map FILE, a text file with one label a line, in '
                'the order of the classes')
    odd = [value for value in values if not isinstance(value, numbers.Real) or not float(value).is_integer()]
    if odd:
        return f'labels such as {_short(odd)} are no whole numbers: name a field of class numbers by --target-key'
    low, high = int(min(values)), int(max(values))
    if low < 0:
        return (f'labels are {low} to {high}: negative ones mean images without a label; use another split, or leave '
                'these rows out')
    if high >= num_classes and low >= 1 and high == num_classes:
        return (f'labels are {low} to {high} and must begin with 0: give --class-map FILE, a text file with {low} to '
                f'{high}, one a line (`seq {low} {high} > FILE`), or use --num-classes {high + 1}')
    if high >= num_classes:
        return (f'--num-classes {num_classes} is too small: the data set has labels {low} to {high}; use at least '
                f'{high + 1}')
    return None


def _short(values: Sequence) -> str:
    return ', '.join(f'{value!r}'[:40] for value in values[:SHOWN])


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value
