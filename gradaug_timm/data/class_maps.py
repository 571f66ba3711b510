"""Class maps: files that number the names of classes."""
import csv
import json
import os
import pickle
from collections.abc import Iterable
from typing import Any

from ..cli import one_line
from ..upstream import load_class_map
from .class_names import MERGED

UNREADABLE = (  # what damaged files raise
    AssertionError, AttributeError, csv.Error, EOFError, IndexError, KeyError, OSError, RecursionError, TypeError,
    ValueError, pickle.UnpicklingError)
Pairs = list[tuple[Any, int]]  # names, or numbers of the data set, with the labels of the network


def read_class_map(path: str, root: str | None = None) -> dict[Any, int]:
    """Return labels by class name from a file.

    Args:
        path: A text file with a name in each line; CSV with a name and a label in each line; JSON with labels by name,
            names by label, or a list of names; or a pickled dict. Names without labels are in the order of labels.
        root: The folder of the data, in which the file is searched too.

    Raises:
        ValueError: The file does not exist or can't be read, or gives a name two labels.
    """
    pairs = _read(path, root)
    labels = dict(pairs)
    twice = [name for name, label in pairs if labels[name] != label]
    if twice:
        raise ValueError(f'--class-map {path} has the class {twice[0]!r} twice')
    return labels


def read_titles(path: str) -> tuple[str, ...]:
    """Return the names of the classes in the order of labels from a file of `read_class_map`; names may be equal.

    Raises:
        ValueError: The file does not exist or can't be read.
    """
    pairs = _read(path, None)
    titles: list[list[str]] = [[] for _ in range(max(label for _, label in pairs) + 1)]
    for name, label in pairs:
        titles[label].append(str(name))
    return tuple(map(MERGED.join, titles))


def _read(path: str, root: str | None) -> Pairs:
    found = next((each for each in (path, os.path.join(root or '', path)) if os.path.isfile(each)), None)
    if found is None:
        raise ValueError(f'--class-map {path} does not exist')
    read = {'.csv': _of_csv, '.json': _of_json, '.pkl': _of_pickle}.get(os.path.splitext(path)[1].lower(), _of_text)
    try:
        pairs = [(name, int(label)) for name, label in read(found)]
        if any(label < 0 for _, label in pairs):
            raise ValueError('labels must not be negative')
    except UNREADABLE as error:
        raise ValueError(f'--class-map {path} can\'t be read: {one_line(error, None)}') from error
    if not pairs:
        raise ValueError(f'--class-map {path} has no names of classes')
    return pairs


def _of_text(path: str) -> Pairs:
    with open(path, encoding='utf-8-sig') as file:
        return _in_order(line.strip() for line in file)


def _of_csv(path: str) -> Pairs:
    with open(path, encoding='utf-8-sig', newline='') as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
    if all(len(row) == 1 for row in rows):
        return _in_order(name for name, in rows)
    for place, name in ((1, 0), (0, 1)):  # a header has no number
        body = rows if rows[0][place].isdecimal() else rows[1:]
        if body and all(row[place].isdecimal() for row in body):
            return [(row[name], int(row[place])) for row in body]
    raise ValueError('each line must have a name and a label')


def _of_json(path: str) -> Pairs:
    with open(path, encoding='utf-8-sig') as file:
        content = json.load(file)
    if isinstance(content, list):
        return _in_order(content)
    if all(isinstance(label, int) for label in content.values()):
        return [*content.items()]
    names = [name[0] if isinstance(name, list) else name for name in content.values()]  # WordNet's name comes first
    return [(name, int(label)) for name, label in zip(names, content)]


def _of_pickle(path: str) -> Pairs:
    return [*load_class_map(path).items()]


def _in_order(names: Iterable[str]) -> Pairs:
    return [(name, label) for label, name in enumerate(names) if name]
