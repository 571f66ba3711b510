"""What an output folder tells about its run."""
import csv
import functools
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

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
    """A run: its folder, its completed flags, its table of epochs by column, and `run.json` (older runs: empty)."""

    path: str
    flags: dict[str, Any]
    rows: list[dict[str, float]]
    record: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.flags['seed']

    @property
    def trained(self) -> int:
        """Epochs up to the last that was validated."""
        return int(self.rows[-1]['epoch']) + 1 if self.rows else 0

    @property
    def planned(self) -> int:
        """Epochs of the whole run; where they weren't recorded, those of the flags."""
        return self.record.get('epochs') or self.flags.get('stop_epoch') or self.flags['epochs']

    @property
    def finished(self) -> bool:
        return self.trained >= self.planned

    def series(self, metric: str) -> list[tuple[int, float]]:
        """The metric's values, each with the number of epochs after which it was taken."""
        column = column_of(metric)
        return [(int(row['epoch']) + 1, row[column]) for row in self.rows if column in row]

    def seconds_per_epoch(self) -> float | None:
        """Mean time of training an epoch; a row's is the mean over the epochs since the row before."""
        began = min((session['first_epoch'] for session in self.record.get('sessions', ())), default=0)
        ends = [began, *(row['epoch'] + 1 for row in self.rows)]
        timed = [(row['train_seconds'], max(end - start, 1))
                 for row, start, end in zip(self.rows, ends, ends[1:]) if 'train_seconds' in row]
        if not timed:
            return None
        return sum(seconds * epochs for seconds, epochs in timed) / sum(epochs for _, epochs in timed)


def column_of(metric: str) -> str:
    """The column of summary.csv that holds `metric`: that of the validation, or a `train_` one by its full name."""
    return metric if metric.startswith('train_') else f'eval_{metric}'


def find_runs(path: str, *, leave_out: str) -> list[str]:
    """The folder itself where it is that of a run, else the folders in it, but for `leave_out`, where reports go.

    Raises:
        ValueError: `path` is no folder, or is empty.
    """
    if not os.path.isdir(path):
        raise ValueError(f'{path}: there is no such folder')
    if _is_run(path):
        return [path]
    entries = [os.path.join(path, name) for name in sorted(os.listdir(path)) if not name.startswith('.')]
    inside = [entry for entry in entries if os.path.isdir(entry)
              and (os.path.realpath(entry) != os.path.realpath(leave_out) or _is_run(entry))]
    if not inside:
        raise ValueError(f'{path}: no run, it has neither {FLAGS} nor folders of runs')
    return inside


def _is_run(path: str) -> bool:
    return not {FLAGS, SUMMARY, RECORD}.isdisjoint(os.listdir(path))


def read_run(path: str) -> RunData:
    """Reads the folder of a run.

    Raises:
        OSError: A file is missing or can't be read.
        ValueError: One is broken; the line names it.
    """
    if not _is_run(path):
        raise ValueError(f'{path}: no run, it has no {FLAGS}')
    flags = _read_flags(os.path.join(path, FLAGS))
    return RunData(path, flags, _read_table(os.path.join(path, SUMMARY)), read_record(path))


def _read_flags(path: str) -> dict[str, Any]:
    """The flags, those that the run didn't know yet at their defaults, completed as training does."""
    try:
        with open(path, encoding='utf-8') as file:
            given = json.loads(json.dumps(yaml.safe_load(file), default=str))  # values that can be compared
    except (*BAD_YAML, TypeError) as error:  # json's, of what it can't write
        raise ValueError(f'{path} is broken: {error}') from None
    check_kinds(path, given, USED_FLAGS)
    flags = {**_default_flags(), **given}
    return {**flags, **completions(flags)}


@functools.cache
def _default_flags() -> dict[str, Any]:
    return TrainSettings().values()


def _read_table(path: str) -> list[dict[str, float]]:
    """The rows without their empty cells."""
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
            raise ValueError(f'{path} is broken: line {line}: {column} {text!r} is no number') from None
        if column == 'epoch' and not (value.is_integer() and value >= 0):
            raise ValueError(f'{path} is broken: line {line}: epoch {text!r} is none')
        yield column, value
