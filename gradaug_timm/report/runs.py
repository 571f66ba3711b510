"""What an output folder tells about its run."""
import argparse
import csv
import functools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from ..training.arguments import build_parser
from ..training.arguments.checks import complete
from ..training.folder import read_rows
from ..training.record import RECORD, read_record

FLAGS, SUMMARY = 'args.yaml', 'summary.csv'
NEEDED_FLAGS = {'model': str, 'seed': int, 'epochs': int}


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
        first = self.record['sessions'][0]['first_epoch'] if self.record else 0
        ends = [first, *(row['epoch'] + 1 for row in self.rows)]
        timed = [(row['train_seconds'], end - start)
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
    inside = sorted(entry.path for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith('.'))
    inside = [folder for folder in inside
              if _is_run(folder) or os.path.realpath(folder) != os.path.realpath(leave_out)]
    if not inside:
        raise ValueError(f'{path}: no run, it has neither {FLAGS} nor folders of runs')
    return inside


def _is_run(path: str) -> bool:
    return any(os.path.exists(os.path.join(path, name)) for name in (FLAGS, SUMMARY, RECORD))


def read_run(path: str) -> RunData:
    """Reads the folder of a run.

    Raises:
        ValueError: A file is missing or broken; the line names it.
    """
    if not _is_run(path):
        raise ValueError(f'{path}: no run, it has no {FLAGS}')
    try:
        record = read_record(path)
        return RunData(path, _read_flags(os.path.join(path, FLAGS)), _read_table(os.path.join(path, SUMMARY)), record)
    except OSError as error:
        raise ValueError(f'{error.filename}: {error.strerror}') from None


def _read_flags(path: str) -> dict[str, Any]:
    """The flags, those that the run didn't know yet at their defaults, completed as training does."""
    try:
        with open(path, encoding='utf-8') as file:
            given = yaml.safe_load(file)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'{path} is broken: {" ".join(str(error).split())}') from None
    if not isinstance(given, dict):
        raise ValueError(f'{path} is broken: it holds no flags')
    wrong = [name for name, kind in NEEDED_FLAGS.items() if not isinstance(given.get(name), kind)]
    if wrong:
        raise ValueError(f'{path} is broken: it holds no {", ".join(wrong)}')
    flags = argparse.Namespace(**{**_default_flags(), **given})
    complete(flags)
    return vars(flags)


@functools.cache
def _default_flags() -> dict[str, Any]:
    return vars(build_parser().parse_args([]))


def _read_table(path: str) -> list[dict[str, float]]:
    """The rows without their empty cells."""
    try:
        rows = read_rows(path)
    except (ValueError, csv.Error) as error:
        raise ValueError(f'{path} is broken: {error}') from None
    return [dict(_numbers(path, line, row)) for line, row in enumerate(rows, start=2)]


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
        if column == 'epoch' and not (math.isfinite(value) and value >= 0):
            raise ValueError(f'{path} is broken: line {line}: epoch {text!r} is none')
        yield column, value
