"""The command `python -m gradaug_timm.compare`."""
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

from filelock import FileLock

from ..cli import StrictParser, flag, log_to_terminal, one_line, table
from ..files import replacing
from ..report.methods import NEUTRAL
from ..report.runs import column_of
from ..threads import use_threads
from ..training.arguments import TrainSettings, parse_arguments
from ..training.arguments import build_parser as training_parser
from .arguments import TIME, CompareSettings, build_parser, parse
from .cost import Cost, measure_costs
from .methods import BASELINE, Method, method_of
from .picture import draw
from .plan import Planned, duration_of, of_shard, plan_runs, shared_flags, that_fit
from .runs import finished, make_runs
from .table import LEGEND, MARK, Row, markdown, record, rows_of, write_csv

COSTS, REPORT = 'costs.json', 'comparison'


def main(argv: list[str] | None = None) -> None:
    """Make the runs of a comparison, and write its tables and picture.

    Raises:
        SystemExit: With code 2 and one line for a wrong flag or missing data, before the first run; 1 if a run fails;
            130 after Ctrl-C.
    """
    log_to_terminal()
    parser = build_parser()
    settings = parse(parser, argv)
    try:
        methods = [method_of(name) for name in settings.methods]
        _check_names(methods)
        if settings.against not in (BASELINE, *(each.name for each in methods)):
            raise ValueError(f'--against {settings.against} must be one of the methods: '
                             f'{", ".join(each.name for each in methods)}')
        _check_folder(settings.output)
        resolved = {each.name: _resolved(parser, settings, each) for each in _with_baseline(methods)}
        if settings.metric:
            _resolved(parser, settings, method_of(BASELINE), '--eval-metric', settings.metric)  # checks it
        use_threads(resolved[BASELINE].threads)
        costs = _costs(settings, methods, resolved, parser)
        compare(parser, settings, methods, resolved, costs)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f'{parser.prog}: interrupted; the same command goes on from here\n')


def compare(
        parser: StrictParser,
        settings: CompareSettings,
        methods: Sequence[Method],
        resolved: Mapping[str, TrainSettings],
        costs: Mapping[str, Cost],
) -> None:
    """Make the runs that are missing, write the tables, and end the program with 1 if a run failed."""
    folder = os.path.join(settings.output, 'runs')
    epochs = resolved[BASELINE].epochs
    every = plan_runs(settings, methods, resolved, costs, epochs=epochs, folder=folder)
    mine = of_shard(every, *settings.shard)
    missing = [run for run in mine if finished(folder, run) is None]
    chosen, notes = missing, []
    if settings.seconds is not None:
        chosen = that_fit(missing, settings.seconds, settings.jobs)
        if len(chosen) < len(missing):
            notes.append(f'{len(missing) - len(chosen)} runs are left out, because they do not fit into --time')
    print('\n'.join([*plan_lines(settings, methods, every, chosen, costs), *notes]), flush=True)
    if settings.dry_run:
        return
    os.makedirs(folder, exist_ok=True)
    failed = []
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        for count, (run, error) in enumerate(make_runs(chosen, folder, jobs=settings.jobs), 1):
            print(f'[{count}/{len(chosen)}] {run.name}: {error or "done"}', flush=True)
            failed += [f'{run.name} failed: {error}'] if error else []
    finally:
        signal.signal(signal.SIGTERM, handler)
    metric = settings.metric or resolved[BASELINE].eval_metric or 'loss'
    print(write(settings, every, costs, metric, epochs, [*notes, *failed]), end='')
    if failed:
        parser.exit(1, f'{parser.prog}: error: {"; ".join(failed)}\n')


def plan_lines(
        settings: CompareSettings,
        methods: Sequence[Method],
        every: Sequence[Planned],
        chosen: Sequence[Planned],
        costs: Mapping[str, Cost],
) -> list[str]:
    """Return what would be run, and how long it takes."""
    head = ['method', 'step', 'seconds an epoch', *(f'epochs at {each:g}' for each in settings.compute)]
    rows = [[each.name, f'{costs[each.name].relative:.2f}', f'{costs[each.name].seconds:.2f}',
             *(f'{next(run.epochs for run in every if (run.method, run.compute) == (each.name, compute))}'
               for compute in settings.compute)] for each in methods]
    took = timedelta(seconds=round(duration_of(chosen, settings.jobs)))
    return [*table([head, *rows], figures=True),
            f'{len(chosen)} of {len(every)} runs, {settings.jobs} at a time: about {took}, without validation.']


def write(
        settings: CompareSettings,
        runs: Sequence[Planned],
        costs: Mapping[str, Cost],
        metric: str,
        epochs: int,
        notes: Sequence[str],
) -> str:
    """Write the tables and the picture of the finished runs; return the Markdown text."""
    values = final_values(os.path.join(settings.output, 'runs'), runs, metric)
    rows: list[Row] = rows_of(runs, costs, values, epochs, settings.against)
    path = os.path.join(settings.output, REPORT)
    figure = draw(rows, metric)
    if figure is not None:
        figure.savefig(f'{path}.png', dpi=120)
    legend = LEGEND.format(epochs=epochs, cost='time' if settings.cost == TIME else 'multiply-adds')
    picture = None if figure is None else f'{REPORT}.png'
    text = markdown(rows, metric, notes, legend=legend, picture=picture, reference=settings.against)
    with replacing(f'{path}.md') as file:
        file.write(text)
    with replacing(f'{path}.csv', newline='') as file:
        write_csv(file, rows)
    with replacing(f'{path}.json') as file:
        json.dump({'metric': metric, 'cost': settings.cost, 'against': settings.against,
                   'rows': [record(row) for row in rows]}, file, indent=2)
    return text


def final_values(folder: str, runs: Sequence[Planned], metric: str) -> dict[Planned, float]:
    """Return the metric after the last epoch of the finished runs.

    Raises:
        ValueError: A run has no such metric.
    """
    found, column = {}, column_of(metric)
    for run in runs:
        data = finished(folder, run)
        if data is None:
            continue
        if column not in data.rows[-1]:
            raise ValueError(f'--metric {metric}: {run.name} has {", ".join(sorted(data.rows[-1]))}')
        found[run] = data.rows[-1][column]
    return found


def _check_names(methods: Sequence[Method]) -> None:
    names = [each.name for each in methods]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f'--methods: two methods are called {repeated}; rename a file')


def _check_folder(output: str) -> None:
    report = os.path.join(output, f'{REPORT}.md')
    if os.path.exists(report):
        with open(report, encoding='utf-8', errors='replace') as file:
            if file.readline().strip() != MARK:
                raise ValueError(f'--output {output}: {report} exists and is not of a comparison')


def _with_baseline(methods: Sequence[Method]) -> list[Method]:
    return [*methods, *([] if any(each.name == BASELINE for each in methods) else [method_of(BASELINE)])]


def _resolved(parser: StrictParser, settings: CompareSettings, method: Method, *more: str) -> TrainSettings:
    """Return the settings of a method's runs; the program ends with one line where they are wrong."""
    training = training_parser()
    training.prog = f'{parser.prog}: {method.name}'
    return parse_arguments(training, [*shared_flags(settings, method), *more])[0]


def _costs(
        settings: CompareSettings,
        methods: Sequence[Method],
        resolved: Mapping[str, TrainSettings],
        parser: StrictParser,
) -> dict[str, Cost]:
    """Return the cost of each method; it is measured once, so that all shards and later calls stretch alike.

    Raises:
        ValueError: The folder has runs with other settings.
    """
    path = os.path.join(settings.output, COSTS)
    if settings.dry_run and not os.path.exists(path):
        return _measured(settings, methods, parser)
    os.makedirs(settings.output, exist_ok=True)
    with FileLock(f'{path}.lock'):
        stored = _stored(path)
        for name, each in resolved.items():
            _check_same(settings, name, stored.get(name, {}), _learned(settings, each))
        missing = [each for each in methods if each.name not in stored]
        if missing or BASELINE not in stored:
            for name, cost in _measured(settings, missing, parser).items():
                stored.setdefault(name, {'relative': cost.relative, 'seconds': cost.seconds,
                                         'settings': _learned(settings, resolved[name])})
            with replacing(path) as file:
                json.dump(stored, file, indent=2)
    return {name: Cost(each['relative'], each['seconds']) for name, each in stored.items()}


def _measured(settings: CompareSettings, methods: Sequence[Method], parser: StrictParser) -> dict[str, Cost]:
    runs = {each.name: _resolved(parser, settings, each, '--dry-run', '--seed', str(settings.seeds[0]))
            for each in _with_baseline(methods)}
    print(f'Measuring {len(runs)} methods ...', file=sys.stderr, flush=True)
    return measure_costs(runs, by_time=settings.cost == TIME)


def _learned(settings: CompareSettings, each: TrainSettings) -> dict:
    """Return what makes a run of a method another one, as JSON has it."""
    values = {name: value for name, value in each.values().items() if name not in NEUTRAL}
    return json.loads(json.dumps({'cost': settings.cost, **values}, default=str))


def _check_same(settings: CompareSettings, method: str, stored: Mapping, given: Mapping) -> None:
    if not stored:
        return
    before = stored['settings']
    for name, value in given.items():
        if before.get(name) != value:
            raise ValueError(f'--output {settings.output} holds runs of {method} with {flag(name)} {before.get(name)}, '
                             f'not {value}; use another folder')


def _stored(path: str) -> dict[str, dict]:
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        for each in content.values():
            Cost(float(each['relative']), float(each['seconds'])), dict(each['settings'])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} is broken: {one_line(error, kind=True)}') from None
    return content
