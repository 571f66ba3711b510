"""The command `python -m gradaug_timm.report`."""
import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

from ..cli import StrictParser
from ..data.class_names import listed
from ..files import replacing
from ..hints import nearest
from .methods import Method, group_runs, one_line
from .picture import draw
from .runs import RunData, classes_of, column_of, find_runs, read_run
from .tables import MARK, markdown, write_csv

STANDARD = ('top1', 'top5')
DESCRIPTION = """Compare finished and unfinished runs of train.py in one table (Markdown and CSV) and a picture.

Runs that differ only in --seed are one row, with mean and standard deviation. The name of a row is the --method of the
runs, otherwise the name of their folders without the seed. The table shows --published-top1 and --published-top5 of
the runs as the paper's figures next to ours. Broken folders and unfinished runs are listed; all other runs are still
reported."""


def main(argv: list[str] | None = None) -> None:
    """Write and print the report.

    Raises:
        SystemExit: Nothing can be reported; exit code 2 and one line on stderr.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.name or os.path.basename(args.name) != args.name:
        parser.error(f'--name {args.name} must be the name of a file without a folder; set the folder with --output')
    runs, notes = collect(args.runs, leave_out=args.output)
    if not runs:
        parser.error(f'nothing to report: {"; ".join(notes)}')
    try:
        metrics = choose_metrics(runs, args.metric)
        methods, found = group_runs(runs)
        notes += [*found, *_other_classes(runs), *_without_figures(runs, metrics[0])]
        notes = [one_line(note) for note in notes]
        written, text = write_report(
            methods, metrics, notes, folder=args.output, name=args.name, title=args.title)
    except OSError as error:
        parser.error(f'--output {args.output}: {error.strerror}')
    except ValueError as error:
        parser.error(str(error))
    print(text, end='')
    for note in notes:
        print(f'{parser.prog}: {note}', file=sys.stderr)
    print(f'{parser.prog}: wrote {", ".join(written)}', file=sys.stderr)


def command() -> None:
    """Run `main` as a program that also works on terminals without the character ±."""
    sys.stdout.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]
    main()


def build_parser() -> StrictParser:
    """Return the parser of `python -m gradaug_timm.report`."""
    parser = StrictParser(
        prog='python -m gradaug_timm.report',
        usage='%(prog)s [options] RUN...',
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('runs', nargs='+', metavar='RUN', help='output folder of a run, or a folder of such folders')
    add = parser.add_argument_group('content').add_argument
    add('--metric', nargs='+', metavar='NAME',
        help='metrics in the table; the picture shows the first (default: top1 top5, else --eval-metric)')
    add('--title', default='Comparison', metavar='TEXT', help='heading of the report (default: Comparison)')
    add = parser.add_argument_group('files').add_argument
    add('--output', default='.', metavar='DIR', help='folder for the report (default: the current folder)')
    add('--name', default='report', metavar='NAME', help='name of the files NAME.md, .csv and .png (default: report)')
    return parser


def collect(paths: Sequence[str], *, leave_out: str) -> tuple[list[RunData], list[str]]:
    """Return the runs in `paths`, each once, and a note for each folder that can't be read."""
    folders, runs, notes = {}, [], []
    for path in paths:
        with _noted(notes):
            folders.update({os.path.realpath(folder): folder for folder in find_runs(path, leave_out=leave_out)})
    for folder in folders.values():
        with _noted(notes):
            runs.append(read_run(folder))
    return runs, notes


@contextmanager
def _noted(notes: list[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        notes.append(f'{error.filename}: {error.strerror}')
    except ValueError as error:
        notes.append(str(error))


def choose_metrics(runs: Sequence[RunData], asked: Sequence[str] | None) -> list[str]:
    """Return the requested metrics; by default top-1 and top-5, or --eval-metric if no run has these.

    Raises:
        ValueError: No run has values of a requested metric.
    """
    columns = {column for run in runs for row in run.rows for column in row}
    if asked:
        missing = [metric for metric in asked if column_of(metric) not in columns]
        if missing:
            known = sorted(column.removeprefix('eval_') for column in columns if column.startswith(('eval_', 'train_')))
            close = nearest(missing[0], known)
            hint = f', did you mean {close}?' if close else ''
            raise ValueError(f'--metric {missing[0]}: the runs have {", ".join(known) or "no values yet"}{hint}')
        return list(dict.fromkeys(asked))
    standard = [metric for metric in STANDARD if column_of(metric) in columns]
    own = dict.fromkeys(run.flags['eval_metric'] for run in runs)
    return standard or [metric for metric in own if column_of(metric) in columns] or ['train_loss']


def _other_classes(runs: Sequence[RunData]) -> Iterator[str]:
    """Yield a note if runs were trained on different classes."""
    first: dict[frozenset[str], str] = {}
    for run in runs:
        names = classes_of(run)
        if names is not None:
            first.setdefault(names, run.path)
    if len(first) > 1:
        common = frozenset.intersection(*first)
        shown = '; '.join(f'{path} ({listed(sorted(names - common) or sorted(names), 3)})'
                          for names, path in first.items())
        yield f'figures of different classes cannot be compared: {shown}'


def _without_figures(runs: Sequence[RunData], metric: str) -> list[str]:
    return [f'{run.path}: no {metric}, only {", ".join(sorted(run.rows[-1]))}'
            for run in runs if run.rows and not run.series(metric)]


def write_report(
        methods: Sequence[Method],
        metrics: Sequence[str],
        notes: list[str],
        *,
        folder: str,
        name: str,
        title: str,
) -> tuple[list[str], str]:
    """Write the files; return their names and the Markdown text.

    Args:
        methods: The rows.
        metrics: The metrics, the first for the picture.
        notes: Notes below the table; a missing picture adds one.
        folder: The folder of the files.
        name: Their name without ending.
        title: Title of table and picture.

    Raises:
        ValueError: A file of that name exists and is not a report.
    """
    os.makedirs(folder, exist_ok=True)
    table, figures, picture = (os.path.join(folder, f'{name}.{kind}') for kind in ('md', 'csv', 'png'))
    _check_ours(table, figures, picture)
    started = any(method.final(metrics[0]) for method in methods)
    figure = draw(methods, metrics[0], title=title) if started else None
    if started and figure is None:
        notes.append('no picture: matplotlib is not installed (pip install matplotlib)')
    text = markdown(methods, metrics, notes, title=title, picture=figure and quote(f'{name}.png'))
    with replacing(table) as file:
        file.write(text)
    with replacing(figures, newline='') as file:
        write_csv(file, methods, metrics)
    if figure is None:
        return [table, figures], text
    figure.savefig(picture, dpi=120)
    return [table, figures, picture], text


def _check_ours(table: str, *others: str) -> None:
    there = [path for path in (table, *others) if os.path.exists(path)]
    if not there:
        return
    ours = False
    if os.path.isfile(table):
        with open(table, encoding='utf-8', errors='replace') as file:
            ours = file.readline().strip() == MARK
    if not ours:
        raise ValueError(f'--name: {there[0]} already exists and is not a report; use another --name or --output')
