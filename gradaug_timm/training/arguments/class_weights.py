"""Weights and counts of classes, by label or by name."""
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.loss import load_class_stats

from ...cli import OwnForm

Stats = tuple[torch.Tensor, int]


class WeightsAction(OwnForm):
    """An action that stores weights of classes as one text: `1 2 0.5` as `1,2,0.5`, and `cat=2 dog=1` as JSON."""

    def stored(self, value: Any) -> str:
        """Return the text."""
        return weights_text(value)


def weights_text(value: Any) -> str:
    """Return weights as one text.

    Args:
        value: A number, a text, a list of them, or a mapping from class names to numbers.

    Raises:
        ValueError: The value is none of these.
    """
    if isinstance(value, Mapping):
        return json.dumps({str(name): _number(name, weight) for name, weight in value.items()})
    if isinstance(value, (list, tuple)):
        texts = [str(each) for each in value]
        named = ['=' in each for each in texts]
        if any(named):
            if not all(named):
                raise ValueError(f'{texts[named.index(False)]!r} must be written CLASS=W, as the others')
            return weights_text(dict(each.rsplit('=', 1) for each in texts))
        return ','.join(texts)
    if value is None or isinstance(value, bool):
        raise ValueError(f'{value!r} must be a number, a list, a mapping of class names to numbers, a file or a method')
    return str(value)


def by_label(named: Mapping[str, float], names: Sequence[str] | None, what: str) -> list[float]:
    """Return values by label.

    Args:
        named: Values by class name, or by label written as text.
        names: The names of the classes in the order of labels; None if they are unknown.
        what: The flag, for the error.

    Raises:
        ValueError: Classes are missing, or there are others.
    """
    if names is not None and (set(named) & set(names) or not _are_labels(named)):
        missing, unknown = [each for each in names if each not in named], [each for each in named if each not in names]
        if missing or unknown:
            parts = [f'lacks {_some(missing)}'] * bool(missing) + [f'has unknown {_some(unknown)}'] * bool(unknown)
            raise ValueError(f'{what} {" and ".join(parts)}; the classes are {_some(names)}')
        return [float(named[each]) for each in names]
    if not _are_labels(named):
        raise ValueError(f'{what} names classes, but the data set does not; give a list in the order of labels')
    return [float(named[str(label)]) for label in range(len(named))]


def given_by_name(text: str | None) -> dict[str, float] | None:
    """Return weights by class name; None if they are given in another form."""
    return json.loads(text) if text and text.startswith('{') else None


def read_stats(path: str | None, names: Sequence[str] | None) -> Stats | None:
    """Return the number of images of each class, and of all images, from timm's JSON file, by label or by name.

    A file that is a mapping of class names to counts is read, too: each image has one label then.

    Raises:
        OSError: The file cannot be read.
        ValueError: It does not hold counts, or they do not fit the classes.
    """
    if not path:
        return None
    with open(path, encoding='utf-8') as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(f'--class-stats {path} is no JSON: {error}') from None
    counts = content.get('pos_counts', content) if isinstance(content, dict) else None
    if isinstance(counts, list):
        return load_class_stats(path)
    if not isinstance(counts, dict) or not counts:
        raise ValueError(f'--class-stats {path} must hold pos_counts, a list or a mapping of classes, and num_samples')
    listed = by_label({name: _number(name, count) for name, count in counts.items()}, names, f'--class-stats {path}')
    total = content.get('num_samples', sum(listed)) if counts is not content else sum(listed)
    if min(listed) < 0 or not isinstance(total, (int, float)) or max(listed) > total:
        raise ValueError(f'--class-stats {path} has counts below 0 or above num_samples {total}')
    return torch.tensor(listed), int(total)


def names_in_stats(path: str | None) -> list[str] | None:
    """Return the classes that a file of counts names, in its order; None if it names none."""
    try:
        with open(path or '', encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError):
        return None
    counts = content.get('pos_counts', content) if isinstance(content, dict) else None
    return list(counts) if isinstance(counts, dict) and not _are_labels(counts) else None


def _are_labels(named: Mapping[str, Any]) -> bool:
    return set(named) == {str(label) for label in range(len(named))}


def _number(name: Any, value: Any) -> float:
    try:
        if isinstance(value, bool) or not math.isfinite(float(value)):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f'the value of class {name} must be a number, not {value!r}') from None


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')
