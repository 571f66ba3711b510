"""Methods: runs that differ only in the seed, with a mean and a standard deviation."""
import json
import math
import os
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..flags import Role, names_of
from ..training.arguments import TrainSettings
from .runs import RunData

# settings that change the location, logs or name of a run, but not what is computed
NEUTRAL = frozenset({'seed', *names_of(TrainSettings, Role.PLACE, Role.WRITTEN)})
TIMESTAMP = r'^\d{8}-\d{6}-'  # start of the names that train.py gives


@dataclass(frozen=True)
class Statistic:
    """Mean, and for two or more runs the standard deviation (n - 1)."""

    mean: float
    spread: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Statistic | None':
        """Return the statistic of `values`; None if there are none."""
        if not values:
            return None
        if len(values) == 1:
            return cls(values[0], None)
        spread = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
        return cls(statistics.mean(values), spread)


@dataclass
class Method:
    """Runs that differ only in the seed: the finished runs, or all runs if none is finished."""

    name: str
    runs: list[RunData]

    @property
    def flags(self) -> dict[str, Any]:
        return self.runs[0].flags

    @property
    def finished(self) -> bool:
        return self.runs[0].finished

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    def final(self, metric: str) -> Statistic | None:
        """Return the metric after the last epoch of each run."""
        return self._statistic(metric, lambda values: values[-1])

    def best(self, metric: str) -> Statistic | None:
        """Return the metric after the best validated epoch of each run."""
        best = min if lower_is_better(metric) else max
        return self._statistic(metric, lambda values: best(filter(math.isfinite, values), default=math.nan))

    def _statistic(self, metric: str, pick: Callable) -> Statistic | None:
        series = [[value for _, value in run.series(metric)] for run in self.runs]
        return Statistic.of([pick(values) for values in series if values])

    def published(self, metric: str) -> float | None:
        """Return the paper's figure, from the first run whose flags have it."""
        figures = (run.flags.get(f'published_{metric}') for run in self.runs)
        return next((figure for figure in figures if figure is not None), None)

    def recorded(self, key: str) -> Any:
        """Return a value that the first run with this key recorded; None in older runs."""
        return next((run.record[key] for run in self.runs if key in run.record), None)

    def seconds_per_epoch(self) -> float | None:
        """Return the mean over the runs that recorded it."""
        seconds = [run.seconds_per_epoch() for run in self.runs]
        timed = [value for value in seconds if value is not None]
        return statistics.mean(timed) if timed else None

    def epochs(self) -> str:
        """Return for example `200`, or `34 and 50 of 200` for unfinished runs (`34 of 200` if all are at 34)."""
        planned = self.runs[0].planned
        if self.finished:
            return f'{planned}'
        return f'{" and ".join(dict.fromkeys(str(run.trained) for run in self.runs))} of {planned}'


def lower_is_better(metric: str) -> bool:
    """Return whether the lowest value of a metric is the best."""
    return metric.endswith('loss')


def group_runs(runs: Sequence[RunData]) -> tuple[list[Method], list[str]]:
    """Return the methods in the order of their first runs, and notes about runs that are not in the table."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    methods, notes = [], []
    for group in groups.values():
        counted = _without_repeats([run for run in group if run.finished] or group, notes)
        methods.append(Method(_name(group), counted))
        for run in group:
            if not run.finished:
                effect = 'in the table with the last values' if run in counted else 'not in the table'
                notes.append(f'{run.path}: unfinished: {run.trained} of {run.planned} epochs; {effect}')
    notes += _tell_apart(methods)
    for method in methods:
        method.name = one_line(method.name)
    return methods, notes


def _without_repeats(runs: list[RunData], notes: list[str]) -> list[RunData]:
    first: dict[int, RunData] = {}
    for run in runs:
        if first.setdefault(run.seed, run) is not run:
            notes.append(f'{run.path}: skipped: the same seed {run.seed} and flags as {first[run.seed].path}')
    return list(first.values())


def _key(run: RunData) -> str:
    return json.dumps(_identity(run), sort_keys=True)


def _identity(run: RunData) -> dict[str, Any]:
    """Return the flags that define the method; starting from another run's checkpoint is a method of its own."""
    flags = {name: value for name, value in run.flags.items() if name not in NEUTRAL}
    resume = run.flags.get('resume') or 'auto'
    begun_elsewhere = resume != 'auto' and os.path.basename(os.path.dirname(resume)) != _folder(run.path)
    if begun_elsewhere:
        flags['resume'] = resume
    return json.loads(json.dumps(flags), parse_float=_number)


def _number(text: str) -> int | float:
    """Return whole numbers as int, so that 0.0 and 0 are the same value."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _folder(path: str) -> str:
    return os.path.basename(os.path.abspath(path))


def _name(group: list[RunData]) -> str:
    """Return the flag `method`, otherwise the folder name that all runs share without the seed."""
    if group[0].flags.get('method'):
        return group[0].flags['method']
    for pattern in (r'(?:^|[-_.])s(?:eed)?[-_=]?{}(?!\d)', r'(?:^|[-_.]){}$'):
        names = {_without_seed(run, pattern) for run in group}
        if len(names) == 1:
            return names.pop()
    return _folder(group[0].path)


def _without_seed(run: RunData, pattern: str) -> str:
    name = re.sub(TIMESTAMP, '', _folder(run.path))
    name = re.sub(pattern.format(run.seed), '', name).strip('-_.')
    return name or _folder(os.path.dirname(os.path.abspath(run.path)))


def _tell_apart(methods: list[Method]) -> list[str]:
    """Add to equal names, in place, the flags that distinguish them; return notes of other differing flags."""
    notes = []
    for name in dict.fromkeys(method.name for method in methods):
        alike = [method for method in methods if method.name == name]
        if len(alike) == 1:
            continue
        flags = [_identity(method.runs[0]) for method in alike]
        differing = [key for key in sorted(set().union(*flags)) if len({_show(flag.get(key)) for flag in flags}) > 1]
        shown = _fewest(differing, flags)
        for method, flag in zip(alike, flags):
            method.name = f'{name} ({", ".join(f"{key} {_show(flag.get(key))}" for key in shown)})'
        others = [key for key in differing if key not in shown]
        if others:
            notes.append(f'{name}: rows with this name also differ in {", ".join(others)}')
    return notes


def _fewest(keys: list[str], flags: list[dict]) -> list[str]:
    """Return keys, in order, each of which distinguishes more of `flags` than the keys before it."""
    chosen, distinct = [], 1
    for key in keys:
        found = len({tuple(_show(flag.get(name)) for name in [*chosen, key]) for flag in flags})
        if found > distinct:
            chosen, distinct = [*chosen, key], found
    return chosen


def _show(value: Any) -> str:
    return ' '.join(map(str, value)) if isinstance(value, list) else str(value)


def one_line(text: str) -> str:
    """Return `text` without line breaks and without characters that UTF-8 can't encode."""
    return ' '.join(text.encode(errors='backslashreplace').decode().split())
