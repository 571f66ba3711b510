"""The report of a dry run: settings and their origins, cost and time, and unusual settings."""
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from ...check_data.collect import check_training_data
from ...cli import flag, one_line, table
from ...flags import idle_settings
from ..arguments.config import COMMAND_LINE
from ..arguments.settings import LoopSettings, TrainSettings
from ..loop.epochs import check_processes
from ..outputs.run_json import device_name
from ..run import Run
from ..unusual import all_values, warnings
from .paper import deviations
from .trial import TIMED, Measured, measure, seconds_left, shares

Row = tuple[str, ...]
CHECKED = 2000  # images of each split that are looked at
LABELS = {'batch': 'images per update', 'zero_init_last': '--model-kwargs zero_init_last'}  # names that are not flags


def dry_run(run: Run) -> None:
    """Train a few steps, if the run is not complete, and print the report in the first process.

    Raises:
        CompilationError, DataError, DisagreementError, DivergedError: As in the run.
        MemoryShortageError: A step does not fit into the memory of the device.
    """
    measured = None
    if run.start.epoch < run.end_epoch:
        measured = measure(run)
    else:
        check_processes(run, run.start)
    if run.process.primary:
        print('\n'.join(report(run, measured)))


def report(run: Run, measured: Measured | None) -> Iterator[str]:
    """Yield the lines of the report; `measured` is None if the run is complete."""
    values = all_values(run)
    yield 'Dry run: nothing is written.'
    yield from _section('From older versions of timm', [(line,) for line in run.args.notes])
    yield from _section('Settings other than the defaults, and where they were set', setting_rows(values))
    yield from _section('Network and cost', cost_rows(run.facts))
    yield from _section('Run', run_rows(run, measured))
    yield from _section('Data', data_rows(run.args))
    yield from _section('Without effect', [
        (f'{flag(name)} {show(values[name])}', reason, f'set: {values["given"][name]}')
        for name, reason in idle_settings(type(run.args), values, values['given'])])
    yield from _section('Unusual', [(line,) for line in warnings(run)])
    if 'smoothing' in values and values['gradaug'] and values['gradaug_subnets']:
        yield from _section('Different from the paper', [
            (f'{LABELS.get(name, flag(name))} {show(value)}', f'paper: {show(wanted)}')
            for name, value, wanted in deviations(values)])


def setting_rows(values: Mapping[str, Any]) -> list[Row]:
    """Return name, value and origin of each setting that differs from its default, the command line last."""
    origins = {**values['given'], **values['filled_in']}
    return [(name, show(values[name]), origin)
            for name, origin in sorted(origins.items(), key=lambda item: item[1] == COMMAND_LINE)]


def cost_rows(facts: Mapping[str, Any]) -> list[Row]:
    """Return rows on parameters and multiply-adds."""
    full, relative = facts['multiply_adds'], facts['relative_cost']
    size = 'x'.join(map(str, facts['input_size']))
    return [
        ('parameters', f'{facts["parameters"]:,}'),
        ('multiply-adds', f'{full / 1e6:,.1f} million for the full network, an image of {size}, forward'),
        ('expected step', f'{full * relative / 1e6:,.1f} million, {relative:.2f} times plain training'),
    ]


def run_rows(run: Run, measured: Measured | None) -> list[Row]:
    """Return rows on device, start, end, memory and time of the run."""
    process, start = run.process, run.start
    where = f' of {run.resumed_from}' if run.resumed_from else ''
    rows: list[Row] = [
        ('on', f'{device_name(process.device)}, processes: {process.world_size}'),
        ('starts at', f'epoch {start.epoch}, batch {start.batch}{where}'),
        ('ends after', f'epoch {run.end_epoch - 1}, updates per epoch: {run.updates}'),
    ]
    if measured is None:
        return rows
    kind = 'tensors on the device' if process.device.type == 'cuda' else 'the whole process, without data workers'
    speed = measured.images / measured.seconds_an_update(shares(run)[0])
    return [
        *rows,
        ('peak memory', 'not known' if measured.peak is None else f'{measured.peak / 2 ** 20:,.0f} MiB ({kind})'),
        ('speed', f'{speed:.1f} images/s, from {TIMED} updates after a warm-up update'),
        ('time to finish', f'{timedelta(seconds=round(seconds_left(run, measured)))}, without validation'),
    ]


def data_rows(args: LoopSettings) -> list[Row]:
    """Return rows on the images and labels of a classifier's data, and what is wrong with them; none for detectors."""
    if not isinstance(args, TrainSettings):
        return []
    try:
        checked, _ = check_training_data(args, num_classes=args.num_classes, limit=CHECKED)
    except (OSError, ValueError) as error:
        return [('error', one_line(error, None))]
    return [*checked.short()]


def show(value: Any) -> str:
    """Return a value nearly as it is written in a YAML file."""
    if isinstance(value, bool):
        return 'on' if value else 'off'
    if isinstance(value, dict):
        return ' '.join(f'{key}={show(each)}' for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ' '.join(map(show, value)) or 'none'
    return f'{value:.4g}' if isinstance(value, float) else 'none' if value is None else str(value) or '""'


def _section(title: str, rows: list[Row]) -> Iterator[str]:
    """Yield the title and the rows with aligned columns; nothing if there are no rows."""
    if not rows:
        return
    yield ''
    yield title
    yield from (f'  {line}' for line in table(rows))
