"""The table of a comparison, and what can be concluded from it."""
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from ..report.methods import lower_is_better
from ..report.tables import label
from .cost import Cost
from .intervals import Interval, interval, paired
from .methods import BASELINE
from .plan import Planned

MARK = '<!-- made by gradaug_timm.compare -->'  # first line of a report, so that no other file is overwritten
LEGEND = (
    'Compute: computation of a run as a multiple of plain training for {epochs} epochs. Step: {cost} of a training '
    "step, relative to plain training. ± and the intervals are 95 % intervals of a mean (Student's t); differences are "
    'paired by seed, at the same compute, and not corrected for the number of comparisons.')


@dataclass(frozen=True)
class Row:
    """A method at one compute.

    Args:
        method: The method.
        compute: The computation.
        cost: The cost of a step.
        epochs: Epochs of a run.
        spent: Computation of a run, which differs from `compute` because epochs are whole.
        values: The metric at the end of each finished run, by seed.
        planned: Number of seeds.
        difference: Difference to the reference at the same compute; None for itself, and without common seeds.
    """
    method: str
    compute: float
    cost: float
    epochs: int
    spent: float
    values: Mapping[int, float]
    planned: int
    difference: Interval | None

    @property
    def mean(self) -> Interval | None:
        """The mean over the seeds; None if no run is finished."""
        return interval(list(self.values.values())) if self.values else None


def rows_of(
        runs: Sequence[Planned],
        costs: Mapping[str, Cost],
        values: Mapping[Planned, float],
        epochs: int,
        reference: str = BASELINE,
) -> list[Row]:
    """Return the rows in the order of the runs.

    Args:
        runs: All runs.
        costs: The cost of each method.
        values: The metric of the finished runs.
        epochs: Epochs of plain training at compute 1.
        reference: The method whose results are subtracted.
    """
    groups: dict[tuple[float, str], list[Planned]] = {}
    for run in sorted(runs, key=lambda run: run.compute):
        groups.setdefault((run.compute, run.method), []).append(run)
    by_seed = {key: {run.seed: values[run] for run in group if run in values} for key, group in groups.items()}
    return [Row(
        method=method,
        compute=compute,
        cost=costs[method].relative,
        epochs=group[0].epochs,
        spent=group[0].epochs * costs[method].relative / epochs,
        values=by_seed[compute, method],
        planned=len(group),
        difference=None if method == reference else paired(
            by_seed[compute, method], by_seed.get((compute, reference), {})),
    ) for (compute, method), group in groups.items()]


def conclusions(rows: Sequence[Row], metric: str, reference: str = BASELINE) -> Iterator[str]:
    """Yield a sentence for each compute: what can be told of the methods, and what cannot."""
    sign = -1 if lower_is_better(metric) else 1
    for compute in dict.fromkeys(row.compute for row in rows):
        said: dict[str, list[str]] = {}
        for row in rows:
            if row.compute == compute and (found := row.difference) is not None:
                said.setdefault(_judged(found, sign), []).append(f'{row.method} ({_show(found)})')
        parts = [f'{words} {reference}: {", ".join(methods)}' for words, methods in said.items()]
        yield f'At compute {compute:g}, {"; ".join(parts) or f"no method can be compared with {reference} yet"}.'


def _judged(difference: Interval, sign: int) -> str:
    if not difference.certain:
        return 'not distinguishable from'
    return 'ahead of' if difference.mean * sign > 0 else 'behind'


def _show(difference: Interval) -> str:
    if difference.number == 1:
        return f'{difference.mean:+.2f}, one seed'
    return f'{difference.mean:+.2f}, {difference.low:+.2f} to {difference.high:+.2f}, {difference.number} seeds'


def markdown(
        rows: Sequence[Row],
        metric: str,
        notes: Sequence[str],
        *,
        legend: str,
        picture: str | None,
        reference: str = BASELINE,
) -> str:
    """Return the report as Markdown text."""
    head = ['compute', 'method', 'step', 'epochs', 'seeds', label(metric), f'minus {reference}', '95 % interval']
    lines = [MARK, '# Comparison', '', _line(head), _line(['---:', '---', *['---:'] * 6]),
             *(_line(_cells(row)) for row in rows), '', legend, '',
             *(f'- {note}' for note in (*conclusions(rows, metric, reference), *notes))]
    lines += ['', f'![{label(metric)} by compute]({picture})'] if picture else []
    return '\n'.join(lines) + '\n'


def _cells(row: Row) -> list[str]:
    mean, found = row.mean, row.difference
    seeds = f'{len(row.values)}' if len(row.values) == row.planned else f'{len(row.values)} of {row.planned}'
    shown = '' if mean is None else f'{mean.mean:.2f}' + (f' ± {mean.half:.2f}' if mean.number > 1 else '')
    return [f'{row.compute:g}', row.method, f'{row.cost:.2f}', f'{row.epochs}', seeds, shown,
            '' if found is None else f'{found.mean:+.2f}',
            '' if found is None or found.number == 1 else f'{found.low:+.2f} to {found.high:+.2f}']


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def record(row: Row) -> dict[str, Any]:
    """Return a row for programs, unrounded; unknown values are None."""
    mean, found = row.mean, row.difference
    known = found if found is not None and found.number > 1 else None
    return {
        'method': row.method, 'compute': row.compute, 'cost': row.cost, 'epochs': row.epochs,
        'spent': row.spent,
        'seeds': len(row.values), 'mean': mean and mean.mean,
        'half_interval': mean.half if mean and mean.number > 1 else None,
        'difference': found and found.mean, 'difference_low': known and known.low,
        'difference_high': known and known.high,
    }


def write_csv(file: TextIO, rows: Sequence[Row]) -> None:
    """Write one line for each finished run."""
    writer = csv.writer(file)
    writer.writerow(['method', 'compute', 'seed', 'epochs', 'cost', 'value'])
    for row in rows:
        for seed, value in row.values.items():
            writer.writerow([row.method, f'{row.compute:g}', seed, row.epochs, row.cost, value])
