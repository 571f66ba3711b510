"""The table of methods, as Markdown for people and as CSV for programs."""
import csv
from collections.abc import Iterator, Sequence
from typing import TextIO

from .methods import Method, Statistic

MARK = '<!-- made by gradaug_timm.report -->'  # first line of a report, so that no other file is overwritten
LABELS = {'top1': 'top-1', 'top5': 'top-5'}
LEGEND = (
    'Mean ± standard deviation (n - 1) over seeds. Final: after the last epoch; best: after the best validated epoch, '
    'chosen on the validation images themselves. {paper}'
    'Passes: forward passes in a step. Cost: multiply-adds of a step, relative to a step without sub-networks. '
    'GFLOPs: 10⁹ multiply-adds for an image, as papers count. s/epoch: time of training without validation.')
PAPER = 'Paper: the published figure, for the recipe of the paper. '


def label(metric: str) -> str:
    """Return the name of a metric in headings."""
    return LABELS.get(metric, metric)


def markdown(
        methods: Sequence[Method],
        metrics: Sequence[str],
        notes: Sequence[str],
        *,
        title: str,
        picture: str | None,
) -> str:
    """Return the report as Markdown text.

    Args:
        methods: The rows.
        metrics: The metrics that are shown.
        notes: Notes below the table.
        title: The heading.
        picture: Path of the picture, relative to the report; None for no picture.
    """
    published = [metric for metric in metrics if any(method.published(metric) is not None for method in methods)]
    head = ['method', *(heading for metric in metrics for heading in _headings(metric, metric in published)),
            'seeds', 'epochs', 'passes', 'cost', 'GFLOPs', 's/epoch']
    rows = [_cells(method, metrics, published) for method in methods]
    lines = [MARK, f'# {title}', '', _line(head), _line(['---', *['---:'] * (len(head) - 1)]), *map(_line, rows), '',
             LEGEND.format(paper=PAPER if published else '')]
    said = [*trained_on(methods), *notes]
    lines += ['', *(f'- {note}' for note in said)] if said else []
    lines += ['', f'![{label(metrics[0])} over epochs]({picture})'] if picture else []
    return '\n'.join(lines) + '\n'


def _headings(metric: str, published: bool) -> list[str]:
    name = label(metric)
    return [f'{name} final', f'{name} best', *([f'{name} paper'] if published else [])]


def _cells(method: Method, metrics: Sequence[str], published: Sequence[str]) -> Iterator[str]:
    yield method.name
    for metric in metrics:
        digits = 4 if 'loss' in metric else 2
        yield _show(method.final(metric), digits)
        yield _show(method.best(metric), digits)
        if metric in published:
            yield _number(method.published(metric), '.10g')
    yield f'{len(method.runs)}'
    yield method.epochs()
    yield _number(method.recorded('passes'), '.3g')
    yield _number(method.recorded('relative_cost'), '.2f')
    yield _three_digits(_giga(method))
    yield _three_digits(method.seconds_per_epoch())


def _show(statistic: Statistic | None, digits: int) -> str:
    if statistic is None:
        return ''
    spread = '' if statistic.spread is None else f' ± {statistic.spread:.{digits}f}'
    return f'{statistic.mean:.{digits}f}{spread}'


def _number(value: float | None, form: str) -> str:
    return '' if value is None else format(value, form)


def _three_digits(value: float | None) -> str:
    return '' if value is None else f'{float(f"{value:.3g}"):.10g}'


def _giga(method: Method) -> float | None:
    count = method.recorded('multiply_adds')
    return None if count is None else count / 1e9


def _line(cells) -> str:
    escaped = [cell.replace('|', r'\|') for cell in cells]
    return f'| {" | ".join(escaped)} |'


def trained_on(methods: Sequence[Method]) -> list[str]:
    """Return lines with devices and versions; if they differ, each with the methods that used them."""
    found: dict[str, list[str]] = {}
    for method in methods:
        for run in method.runs:
            for session in run.record.get('sessions', ()):
                names = found.setdefault(_place(session), [])
                if method.name not in names:
                    names.append(method.name)
    if len(found) == 1:
        return [f'Trained on {next(iter(found))}']
    return [f'Trained on {place}: {", ".join(names)}' for place, names in found.items()]


def _place(session: dict) -> str:
    processes = f'{session["world_size"]} x ' if session['world_size'] > 1 else ''
    versions = ', '.join(f'{name} {version}' for name, version in session['versions'].items() if version)
    return f'{processes}{session["device"]}; {versions}'


def write_csv(file: TextIO, methods: Sequence[Method], metrics: Sequence[str]) -> None:
    """Write the figures unrounded, with the folders of the runs; unknown values are empty."""
    rows = [_record(method, metrics) for method in methods]
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


def _record(method: Method, metrics: Sequence[str]) -> dict:
    figures = {}
    for metric in metrics:
        for name, statistic in (('final', method.final(metric)), ('best', method.best(metric))):
            figures[f'{metric}_{name}_mean'] = statistic and statistic.mean
            figures[f'{metric}_{name}_std'] = statistic and statistic.spread
        figures[f'{metric}_paper'] = method.published(metric)
    return {
        'method': method.name,
        **figures,
        'seeds': ' '.join(map(str, method.seeds)),
        'finished': method.finished,
        'epochs': ' '.join(str(run.trained) for run in method.runs),
        'planned_epochs': method.runs[0].planned,
        'passes': method.recorded('passes'),
        'relative_cost': method.recorded('relative_cost'),
        'gflops': _giga(method),
        'parameters': method.recorded('parameters'),
        'seconds_per_epoch': method.seconds_per_epoch(),
        'folders': ' '.join(run.path for run in method.runs),
    }
