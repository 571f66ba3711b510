"""Data of a run, read from the output folder."""
import csv
import functools
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from ..evaluation.contents import read_contents
from ..evaluation.trained import weights_in
from ..training.arguments import TrainSettings
from ..training.arguments.checks import completions
from ..training.arguments.config import BAD_YAML
from ..training.outputs.folder import read_rows
from ..training.outputs.run_json import RECORD, check_kinds, read_record

FLAGS, SUMMARY = 'args.yaml', 'summary.csv'
USED_FLAGS = {
    'model': str, 'seed': int, 'epochs': int, 'stop_epoch': int | None, 'resume': str | None, 'eval_metric': str | None,
    'method': str | None, 'published_top1': int | float | None, 'published_top5': int | float | None,
}


@dataclass(frozen=True)
class RunData:
    """Run: folder, completed flags, rows of the table of epochs by column, and `run.json` (empty for older runs)."""

    path: str
    flags: dict[str, Any]
    rows: list[dict[str, float]]
    record: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.flags['seed']

    @property
    def trained(self) -> int:
        """Return the number of epochs up to the last validated one."""
        return int(self.rows[-1]['epoch']) + 1 if self.rows else 0

    @property
    def planned(self) -> int:
        """Return the number of epochs of the whole run, as recorded or otherwise as in the flags."""
        return self.record.get('epochs') or self.flags.get('stop_epoch') or self.flags['epochs']

    @property
    def finished(self) -> bool:
        return self.trained >= self.planned

    def series(self, metric: str) -> list[tuple[int, float]]:
        """Return the values of a metric as (number of epochs, value)."""
        column = column_of(metric)
        return [(int(row['epoch']) + 1, row[column]) for row in self.rows if column in row]

    def seconds_per_epoch(self) -> float | None:
        """Return the mean training time of an epoch; a row holds the mean over the epochs since the row before."""
        began = min((session['first_epoch'] for session in self.record.get('sessions', ())), default=0)
        ends = [began, *(row['epoch'] + 1 for row in self.rows)]
        timed = [(row['train_seconds'], max(end - start, 1))
                 for row, start, end in zip(self.rows, ends, ends[1:]) if 'train_seconds' in row]
        if not timed:
            return None
        return sum(seconds * epochs for seconds, epochs in timed) / sum(epochs for _, epochs in timed)


def classes_of(run: RunData) -> frozenset[str] | None:
    """Return the names of the classes that a run was trained on, from its weights; None if they do not tell."""
    path = weights_in(run.path, use_ema=False)
    try:
        names = None if path is None else read_contents(path).class_names
    except (OSError, ValueError):  # weights are not compared
        return None
    return None if names is None else frozenset(names)


def column_of(metric: str) -> str:
    """Return the column of summary.csv with `metric`: a validation metric, or a `train_` column by its full name."""
    return metric if metric.startswith('train_') else f'eval_{metric}'


def find_runs(path: str, *, leave_out: str) -> list[str]:
    """Return `path` if it is the folder of a run, otherwise the folders in it except `leave_out`, the report's folder.

    Raises:
        ValueError: `path` is not a folder, or contains no folders.
    """
    if not os.path.isdir(path):
        raise ValueError(f'{path}: {"not a folder" if os.path.exists(path) else "does not exist"}')
    if _is_run(path):
        return [path]
    entries = [os.path.join(path, name) for name in sorted(os.listdir(path)) if not name.startswith('.')]
    inside = [entry for entry in entries if os.path.isdir(entry)
              and (os.path.realpath(entry) != os.path.realpath(leave_out) or _is_run(entry))]
    if not inside:
        raise ValueError(f'{path}: not a run: it has neither {FLAGS} nor folders of runs')
    return inside


def _is_run(path: str) -> bool:
    return not {FLAGS, SUMMARY, RECORD}.isdisjoint(os.listdir(path))


def read_run(path: str) -> RunData:
    """Read the folder of a run.

    Raises:
        OSError: A file is missing or can't be read.
        ValueError: A file is broken; the message names it.
    """
    if not _is_run(path):
        raise ValueError(f'{path}: not a run: it has no {FLAGS}')
    flags = _read_flags(os.path.join(path, FLAGS))
    return RunData(path, flags, _read_table(os.path.join(path, SUMMARY)), read_record(path))


def _read_flags(path: str) -> dict[str, Any]:
    """Return the flags, completed as in training; flags that an older run did not have get the defaults."""
    try:
        with open(path, encoding='utf-8') as file:
            given = json.loads(json.dumps(yaml.safe_load(file), default=str))  # values that can be compared
    except (*BAD_YAML, TypeError) as error:  # TypeError: json can't write a value
        raise ValueError(f'{path} is broken: {error}') from None
    check_kinds(path, given, USED_FLAGS)
    flags = {**_default_flags(), **given}
    return {**flags, **completions(flags)}


@functools.cache
def _default_flags() -> dict[str, Any]:
    return TrainSettings().values()


def _read_table(path: str) -> list[dict[str, float]]:
    """Return the rows without empty cells."""
    try:
        rows = read_rows(path)
    except (ValueError, csv.Error) as error:
        raise ValueError(f'{path} is broken: {error}') from None
    table = [dict(_numbers(path, line, row)) for line, row in enumerate(rows, start=2)]
    for before, row in itertools.pairwise(table):
        if row['epoch'] <= before['epoch']:
            raise ValueError(f'{path} is broken: epoch {row["epoch"]:g} comes after epoch {before["epoch"]:g}')
    return table


def _numbers(path: str, line: int, row: dict) -> Iterator[tuple[str, float]]:
    if not row.get('epoch') or None in row or None in row.values():
        raise ValueError(f'{path} is broken: line {line} does not fit the header')
    for column, text in row.items():
        if not text:
            continue
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f'{path} is broken: line {line}: {column} {text!r} is not a number') from None
        if column == 'epoch' and not (value.is_integer() and value >= 0):
            raise ValueError(f'{path} is broken: line {line}: epoch {text!r} is not a whole number')
        yield column, value
