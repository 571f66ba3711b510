"""Files of a confusion matrix: the counts as CSV and JSON, and a picture."""
import csv
import json
import os
from collections.abc import Sequence

import torch

from ..data.class_names import title_of
from ..files import replacing
from .picture import draw
from .settings import PICTURE

PAIRS = 20  # pairs of classes that are listed


def with_suffix(path: str, suffix: str) -> str:
    """Return a path with `-SUFFIX` before its ending."""
    stem, ending = os.path.splitext(path)
    return f'{stem}-{suffix}{ending}'


def in_folder(path: str, folder: str) -> str:
    """Return a path, which is in `folder` if it names none itself."""
    return path if os.path.dirname(path) else os.path.join(folder, path)


def write_confusion(counts: torch.Tensor, names: Sequence[str] | None, path: str) -> list[str]:
    """Write a confusion matrix, the counts first.

    Args:
        counts: Number of images by true and predicted class, [classes, classes].
        names: The names of the classes in the order of labels; None if they are unknown.
        path: A .csv or .json file; or a .png file, next to which both are written.

    Returns:
        The paths of the files.

    Raises:
        OSError: A file can't be written.
    """
    titles = [str(label) if names is None else title_of(label, names) for label in range(len(counts))]
    pairs = most_confused(counts, titles)
    stem, ending = os.path.splitext(path)
    endings = ('.csv', '.json', PICTURE) if ending == PICTURE else (ending,)
    for each in endings:
        if each == '.csv':
            _write_csv(counts, titles, f'{stem}.csv')
        elif each == '.json':
            _write_json(counts, titles, pairs, f'{stem}.json')
        else:
            draw(counts, titles, pairs, path)
    return [f'{stem}{each}' for each in endings]


def most_confused(counts: torch.Tensor, titles: Sequence[str], limit: int = PAIRS) -> list[dict]:
    """Return the pairs of a class and another that its images were taken for, the most frequent first.

    `share` is the part of the images of the true class.
    """
    wrong = counts.clone().fill_diagonal_(0)
    totals = counts.sum(1).tolist()
    best = wrong.flatten().sort(descending=True, stable=True)
    found = []
    for count, cell in zip(best.values[:limit].tolist(), best.indices[:limit].tolist()):
        true, predicted = divmod(cell, len(counts))
        if count:
            found.append({'true': titles[true], 'predicted': titles[predicted], 'count': count,
                          'share': round(count / totals[true], 4)})
    return found


def _write_csv(counts: torch.Tensor, titles: Sequence[str], path: str) -> None:
    with replacing(path, newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['true \\ predicted', *titles])
        writer.writerows([title, *row] for title, row in zip(titles, counts.tolist()))


def _write_json(counts: torch.Tensor, titles: Sequence[str], pairs: list[dict], path: str) -> None:
    values = {'classes': list(titles), 'images': int(counts.sum()), 'correct': int(counts.trace()),
              'most_confused': pairs, 'matrix': counts.tolist()}
    with replacing(path) as file:
        json.dump(values, file)
