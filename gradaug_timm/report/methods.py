"""Runs that differ in their seed alone are one method, with a mean and a spread."""
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

# settings that say where a run lies, what it logs and how it is named, but not what it computes
NEUTRAL = frozenset({'seed', *names_of(TrainSettings, Role.PLACE, Role.WRITTEN)})
TIMESTAMP = r'^\d{8}-\d{6}-'  # with which train.py begins the names that it gives


@dataclass(frozen=True)
class Statistic:
    """A mean, and over two runs or more the standard deviation (n - 1)."""

    mean: float
    spread: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Statistic | None':
        """None of no values."""
        if not values:
            return None
        if len(values) == 1:
            return cls(values[0], None)
        spread = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
        return cls(statistics.mean(values), spread)


@dataclass
class Method:
    """Runs alike but for their seed: the finished ones, or where there are none those under way."""

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
        """The metric after each run's last epoch."""
        return self._statistic(metric, lambda values: values[-1])

    def best(self, metric: str) -> Statistic | None:
        """The metric after each run's best validated epoch."""
        best = min if lower_is_better(metric) else max
        return self._statistic(metric, lambda values: best(filter(math.isfinite, values), default=math.nan))

    def _statistic(self, metric: str, pick: Callable) -> Statistic | None:
        series = [[value for _, value in run.series(metric)] for run in self.runs]
        return Statistic.of([pick(values) for values in series if values])

    def published(self, metric: str) -> float | None:
        """The paper's figure, as the first run that was told it has it."""
        figures = (run.flags.get(f'published_{metric}') for run in self.runs)
        return next((figure for figure in figures if figure is not None), None)

    def recorded(self, key: str) -> Any:
        """What the first run that recorded it says of the network or the step; None in older runs."""
        return next((run.record[key] for run in self.runs if key in run.record), None)

    def seconds_per_epoch(self) -> float | None:
        """Mean over the runs that recorded it."""
        seconds = [run.seconds_per_epoch() for run in self.runs]
        timed = [value for value in seconds if value is not None]
        return statistics.mean(timed) if timed else None

    def epochs(self) -> str:
        """`200`, or `34 and 50 of 200` where no run is finished; `34 of 200` where all are as far."""
        planned = self.runs[0].planned
        if self.finished:
            return f'{planned}'
        return f'{" and ".join(dict.fromkeys(str(run.trained) for run in self.runs))} of {planned}'


def lower_is_better(metric: str) -> bool:
    """Whether the best value is the lowest."""
    return metric.endswith('loss')


def group_runs(runs: Sequence[RunData]) -> tuple[list[Method], list[str]]:
    """The methods in the order of their first runs, and what has to be said about runs that don't count."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    methods, notes = [], []
    for group in groups.values():
        counted = _without_repeats([run for run in group if run.finished] or group, notes)
        methods.append(Method(_name(group), counted))
        for run in group:
            if not run.finished:
                effect = 'its row shows it as it is' if run in counted else 'not in the table'
                notes.append(f'{run.path}: unfinished: {run.trained} of {run.planned} epochs; {effect}')
    notes += _tell_apart(methods)
    for method in methods:
        method.name = one_line(method.name)
    return methods, notes


def _without_repeats(runs: list[RunData], notes: list[str]) -> list[RunData]:
    first: dict[int, RunData] = {}
    for run in runs:
        if first.setdefault(run.seed, run) is not run:
            notes.append(f'{run.path}: seed {run.seed} again, left out: the same flags as {first[run.seed].path}')
    return list(first.values())


def _key(run: RunData) -> str:
    return json.dumps(_identity(run), sort_keys=True)


def _identity(run: RunData) -> dict[str, Any]:
    """What makes the method; a run that began from another run's checkpoint isn't one that continued its own."""
    flags = {name: value for name, value in run.flags.items() if name not in NEUTRAL}
    resume = run.flags.get('resume') or 'auto'
    begun_elsewhere = resume != 'auto' and os.path.basename(os.path.dirname(resume)) != _folder(run.path)
    if begun_elsewhere:
        flags['resume'] = resume
    return json.loads(json.dumps(flags), parse_float=_number)


def _number(text: str) -> int | float:
    """0.0 as 0, so that both are one value."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _folder(path: str) -> str:
    return os.path.basename(os.path.abspath(path))


def _name(group: list[RunData]) -> str:
    """The flag `method`, else what the folders' names share when their seeds are taken out."""
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
    """Adds to equal names, in place, the flags that tell them apart; returns notes of what else differs."""
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
            notes.append(f'{name}: the rows of this name also differ in {", ".join(others)}')
    return notes


def _fewest(keys: list[str], flags: list[dict]) -> list[str]:
    """Keys, in their order, each of which tells more of the `flags` apart than those before it, until all are."""
    chosen, distinct = [], 1
    for key in keys:
        found = len({tuple(_show(flag.get(name)) for name in [*chosen, key]) for flag in flags})
        if found > distinct:
            chosen, distinct = [*chosen, key], found
    return chosen


def _show(value: Any) -> str:
    return ' '.join(map(str, value)) if isinstance(value, list) else str(value)


def one_line(text: str) -> str:
    """`text` without line breaks, and without what UTF-8 can't hold."""
    return ' '.join(text.encode(errors='backslashreplace').decode().split())
