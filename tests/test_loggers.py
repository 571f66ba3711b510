"""Loggers of a run: the same figures under the same names in the folder, TensorBoard, wandb and trackio."""
import errno
import importlib.util
import json
import os
import sqlite3
import struct
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from test_resuming import BATCHES, data  # noqa: F401  data is a fixture
from train_helpers import arguments, at_batch, error_line, out_of_memory, read_log, read_summary, train

from gradaug_timm.training.main import main
from gradaug_timm.training.outputs import curves as plot
from gradaug_timm.training.outputs.folder import RunFolder
from gradaug_timm.training.outputs.loggers import FolderLogger, Logger, Loggers, continue_log
from gradaug_timm.training.outputs.progress_bar import Progress

FLAGS = dict(
    model='gradaug_resnet20_cifar', gradaug_divisor=4, gradaug_subnets=2, epochs=2, batch_size=4, log_interval=2,
    no_aug=None, color_jitter=0.2, save_images=True)
REPORTED = [1, 3, 5, 6, 8, 10]  # updates after which batches 0, 2 and 4 of each epoch are reported
PICTURED = [1, 6]


class Service(ModuleType):
    """Stands in for wandb and trackio; keeps what it is given, or raises `failure` in `fails_in`."""

    def __init__(self, name: str, fails_in: str = '', failure: Exception | None = None):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None, origin='nowhere')
        self.errors = SimpleNamespace(UsageError=KeyError, AuthenticationError=KeyError)
        self.Image = np.asarray
        self.fails_in, self.failure = fails_in, failure
        self.started, self.ended, self.images, self.figures = {}, [], {}, {}

    def init(self, **kwargs) -> 'Service':
        self._maybe_fail('init')
        self.started = kwargs
        return self

    def log(self, values: dict, step: int) -> None:
        self._maybe_fail('log')
        for name, value in values.items():
            kept = self.images if isinstance(value, np.ndarray) else self.figures
            assert (step, name) not in kept
            kept[step, name] = value

    def finish(self, exit_code: int = 0) -> None:
        self.ended.append(exit_code)

    def _maybe_fail(self, place: str) -> None:
        if place == self.fails_in:
            raise self.failure


def figures_of_log(folder) -> dict:
    """Figures of log.jsonl by step and name."""
    return {(entry['step'], name): value for entry in read_log(folder) for name, value in entry.items()
            if name not in ('step', 'time')}


def figures_of_tensorboard(folder) -> dict:
    """The scalars that TensorBoard itself reads, by step and name; each once."""
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    reader = accumulator.EventAccumulator(str(folder / 'tensorboard'), {'scalars': 0, 'images': 0}).Reload()
    found = [(event.step, name, event.value) for name in reader.Tags()['scalars'] for event in reader.Scalars(name)]
    assert len({entry[:2] for entry in found}) == len(found)
    return {(step, name): value for step, name, value in found}


@pytest.fixture(scope='module')
def services():
    return {name: Service(name) for name in ('wandb', 'trackio')}


@pytest.fixture(scope='module')
def folder(data, services, tmp_path_factory):  # noqa: F811
    with patch.dict(sys.modules, services):
        return train(data, tmp_path_factory.mktemp('logged'), log_wandb=True, log_trackio=True,
                     log_tensorboard=importlib.util.find_spec('tensorboard') is not None, **FLAGS)


def test_all_loggers_get_the_same_figures_at_the_same_steps(folder, services):
    expected = figures_of_log(folder)
    assert services['wandb'].figures == services['trackio'].figures == expected
    assert figures_of_tensorboard(folder) == {key: pytest.approx(value, rel=1e-6) for key, value in expected.items()}
    assert all(service.ended == [0] for service in services.values())
    assert services['wandb'].started['name'] == services['trackio'].started['name'] == 'run'


def test_an_epochs_figures_are_those_of_the_table(folder):
    rows = [{name: float(value) for name, value in row.items()} for row in read_summary(folder)]
    epochs = [entry for entry in read_log(folder) if 'epoch' in entry]
    assert [entry.pop('step') for entry in epochs] == [BATCHES, 2 * BATCHES]
    assert all(entry.pop('time') > 0 for entry in epochs)
    assert epochs == rows


def test_the_intervals_losses_with_their_components_average_to_the_epochs(folder):
    entries = [entry for entry in read_log(folder) if 'epoch' not in entry]
    assert [entry['step'] for entry in entries] == REPORTED
    assert [entry['step/epoch'] for entry in entries] == [0, 0, 0, 1, 1, 1]
    for epoch, row in enumerate(read_summary(folder)):
        for name in ('loss', 'loss_full', 'loss_subnet_0', 'loss_subnet_1'):
            means = [entry[f'step/{name}'] for entry in entries if entry['step/epoch'] == epoch]
            batches = (1, 2, 2)  # since the report before
            mean = sum(value * count for value, count in zip(means, batches)) / BATCHES
            assert mean == pytest.approx(float(row[f'train_{name}']), rel=1e-5)
    assert all(entry['step/images_per_second'] > 0 for entry in entries)
    assert entries[0]['step/lr'] == 0.01


def test_the_bar_on_a_terminal_shows_every_component(data, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip('tqdm')
    notes = []
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    monkeypatch.setattr(Progress, 'note', lambda self, text: notes.append(text))
    row = read_summary(train(data, tmp_path, **{**FLAGS, 'epochs': 1, 'save_images': None}))[0]
    parts = [f'{name} {float(row[f"train_{name}"]):#.4g}'
             for name in ('loss', 'loss_full', 'loss_subnet_0', 'loss_subnet_1')]
    assert len(notes) == 3 and notes[-1].startswith(', '.join(parts)) and notes[-1].endswith(' img/s')


def test_the_pictures_are_in_the_folder_and_in_all_loggers(folder, services):
    pictures = {step: np.asarray(Image.open(folder / f'inputs-{step}.png')) for step in PICTURED}
    assert len(list(folder.glob('inputs-*'))) == len(PICTURED)
    for service in services.values():
        assert {step for step, _ in service.images} == set(PICTURED)
        assert all(np.array_equal(service.images[step, 'inputs'], pictures[step]) for step in PICTURED)
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    reader = accumulator.EventAccumulator(str(folder / 'tensorboard'), {'images': 0}).Reload()
    assert [(event.step, event.height, event.width) for event in reader.Images('inputs')] == [
        (step, *pictures[step].shape[:2]) for step in PICTURED]


def test_a_run_that_was_killed_and_resumed_shows_the_undisturbed_figures_in_tensorboard(
        data, folder, tmp_path):  # noqa: F811
    flags = dict(resume='auto', log_tensorboard=True, checkpoint_steps=3, **FLAGS)
    with at_batch(BATCHES + 4, out_of_memory), pytest.raises(MemoryError):
        train(data, tmp_path, **flags)  # the checkpoint is that of update 6, the last report that of 8
    parts = train(data, tmp_path, **{**flags, 'checkpoint_steps': None})
    figures = [{key: value for key, value in figures_of_tensorboard(run).items() if 'second' not in key[1]}
               for run in (folder, parts)]
    assert figures[0] == figures[1]


def test_what_came_after_the_checkpoint_and_a_line_cut_off_are_taken_out(tmp_path):
    log = FolderLogger(str(tmp_path))
    for step in range(1, 7):
        log.log({'step/epoch': (step - 1) // 3, 'step/loss': float('nan')}, step)
        if step % 3 == 0:
            log.log({'epoch': step // 3 - 1, 'lr': 0.1}, step)
    path = tmp_path / 'log.jsonl'
    with path.open('a') as file:
        file.write('{"step": 7, "ti')
    before, log = path.read_bytes(), continue_log(str(path), 1, 3, 2)
    assert log.ahead == 0 and path.read_bytes() == before, 'nothing is cut before the loggers are open'
    log.cut()
    entries = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert [(entry['step'], entry.get('epoch')) for entry in entries] == [
        (1, None), (2, None), (3, None), (3, 0), (4, None), (5, None)]
    log = continue_log(str(path), 0, 0, 3)  # of an epoch that is complete but for its validation
    assert log.ahead == 0
    log.cut()
    assert [json.loads(line)['step'] for line in path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize('content', [b'no json\n', b'[1]\n', b'{"step": 1}\n', b'\xff\n'])
def test_a_file_that_is_no_log_is_refused(tmp_path, content):
    (tmp_path / 'log.jsonl').write_bytes(content)
    with pytest.raises(ValueError, match=r'log\.jsonl is broken'):
        continue_log(str(tmp_path / 'log.jsonl'), 0, 0, 3)


@pytest.mark.parametrize('batch_size, updates', [(2, 10), (8, 2)])
def test_steps_go_on_where_epochs_have_other_numbers_of_updates(data, tmp_path, batch_size, updates):  # noqa: F811
    flags = {**FLAGS, 'log_tensorboard': True, 'save_images': None, 'sched_on_updates': None}
    train(data, tmp_path, stop_epoch=1, **flags)
    run = train(data, tmp_path, resume='auto', **{**flags, 'batch_size': batch_size, 'log_interval': 1})
    assert [entry['step'] for entry in read_log(run) if 'epoch' in entry] == [BATCHES, BATCHES + updates]
    steps = [entry['step'] for entry in read_log(run) if 'epoch' not in entry]
    assert steps == [1, 3, 5, *range(BATCHES + 1, BATCHES + updates + 1)]
    assert figures_of_tensorboard(run).keys() == figures_of_log(run).keys()


def test_each_logger_is_closed_and_what_fails_then_hides_no_earlier_error(caplog):
    class Full(Logger):
        log = image = None

        def close(self, *, failed=False):
            closed.append(failed)
            raise OSError('full')
    Full.__abstractmethods__ = frozenset()
    closed = []
    with pytest.raises(ZeroDivisionError), Loggers([Full(), Full()]):
        raise ZeroDivisionError
    assert closed == [True, True] and caplog.messages == ['full', 'full']
    with pytest.raises(OSError, match='full'), Loggers([Full(), Full()]):
        pass
    assert closed == [True, True, False, False]


@pytest.mark.parametrize('name, place, failure', [
    ('wandb', 'init', ConnectionError), ('wandb', 'log', ConnectionError), ('trackio', 'init', ValueError)])
def test_a_service_that_fails_is_warned_of_once_and_left_out(
        data, tmp_path, caplog, name, place, failure):  # noqa: F811
    service = Service(name, place, failure('no route\nto host'))
    with patch.dict(sys.modules, {name: service}):
        folder = train(data, tmp_path, **{f'log_{name}': True, **FLAGS, 'epochs': 1, 'save_images': None})
    warnings = [record.getMessage() for record in caplog.records if f'--log-{name}' in record.getMessage()]
    assert warnings == [f'--log-{name} failed; the run continues without it ({failure.__name__}: no route to host).']
    assert len(read_summary(folder)) == 1 and not service.figures


def test_what_a_service_refuses_ends_in_one_line_before_training(data, tmp_path, capsys):  # noqa: F811
    for failure in (KeyError('no such run'), ValueError('no\nsuch run')):
        with patch.dict(sys.modules, {'wandb': Service('wandb', 'init', failure)}):
            line = error_line(capsys, arguments(data, tmp_path, experiment='run', log_wandb=True))
        assert '--log-wandb: ' in line and 'no such run' in line
    assert not (tmp_path / 'run' / 'log.jsonl').exists()


@pytest.mark.parametrize('package', ['tensorboard', 'wandb', 'trackio'])
@pytest.mark.parametrize('found', [None, ModuleSpec('folder of that name', None)], ids=['absent', 'folder'])
def test_a_missing_package_is_refused_naming_the_extra(tmp_path, capsys, package, found):
    with patch.object(importlib.util, 'find_spec', return_value=found):
        line = error_line(capsys, arguments(tmp_path, tmp_path, **{f'log_{package}': True}))
    assert f'--log-{package} needs the package {package}: pip install "gradaug_timm[{package}]"' in line


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_a_full_disk_is_an_error_that_names_the_log(tmp_path):
    (tmp_path / 'log.jsonl').symlink_to('/dev/full')
    with pytest.raises(OSError, match=f'{tmp_path}/log.jsonl cannot be written: No space left'):
        FolderLogger(str(tmp_path)).log({'lr': 1.}, 1)


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_full_disk_below_tensorboard_ends_the_run_in_one_line(data, tmp_path, capsys):  # noqa: F811
    files = pytest.importorskip('tensorboard.compat.tensorflow_stub.io.gfile')
    append, written = files.LocalFileSystem.append, []

    def full(self, *args, **kwargs):
        written.append(1)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return append(self, *args, **kwargs)
    with patch.object(files.LocalFileSystem, 'append', full), pytest.raises(SystemExit) as ended:
        main(arguments(data, tmp_path, experiment='run', log_tensorboard=True, checkpoint_steps=1, **FLAGS))
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert [line for line in lines if line.startswith('train.py: error:')] == [
        f'train.py: error: {tmp_path}/run/tensorboard cannot be written: No space left on device']


def test_the_curves_follow_a_run_but_not_each_short_epoch(folder, tmp_path, monkeypatch):
    pytest.importorskip('matplotlib')
    run = RunFolder(str(tmp_path))
    (tmp_path / 'summary.csv').write_bytes((folder / 'summary.csv').read_bytes())
    now = [0.]
    monkeypatch.setattr(plot.time, 'monotonic', lambda: now[0])
    curves, drawn = plot.CurvesInRun(run, 'top1'), []
    monkeypatch.setattr(plot, 'plot_curves', lambda *args: (drawn.append(now[0]), now.__setitem__(0, now[0] + 2)))
    for second in range(0, 600, 10):
        now[0] = max(now[0], second)
        curves.update()
    assert drawn == [60, 270, 480]  # drawing takes 2 s, of which 200 may go by


def test_curves_that_cannot_be_drawn_leave_those_that_are_there(folder, tmp_path):
    figure = pytest.importorskip('matplotlib.figure')
    (tmp_path / 'summary.csv').write_bytes((folder / 'summary.csv').read_bytes())
    path = plot.plot_curves(RunFolder(str(tmp_path)), 'top1')
    assert Image.open(path).size[0] > 500
    before = (tmp_path / 'learning_curves.png').read_bytes()

    def half(self, name, **kwargs):
        with open(name, 'wb') as file:
            file.write(b'half')
        raise OSError(errno.ENOSPC, 'full')
    with patch.object(figure.Figure, 'savefig', half), pytest.raises(plot.PictureError, match=r'learning_curves\.png'):
        plot.plot_curves(RunFolder(str(tmp_path)), 'top1')
    assert (tmp_path / 'learning_curves.png').read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['learning_curves.png', 'summary.csv']


def test_curves_that_cannot_be_drawn_are_told_once_and_end_no_run(folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(plot, 'PAUSE', 0.)
    (tmp_path / 'summary.csv').write_text('epoch,train_loss\nnone,0\n')
    curves = plot.CurvesInRun(RunFolder(str(tmp_path)), 'top1')
    for _ in range(2):
        curves.update()
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith('Learning curves are not drawn: ')


def records_of_wandb(path):
    """The records of wandb's offline file: blocks of 32 KiB, as LevelDB's log, after a header of 7 bytes."""
    content, place, parts = path.read_bytes(), 7, []
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from('<IHB', content, place)
        parts.append(content[place + 7:place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield b''.join(parts)
            parts = []


def test_wandb_itself_writes_the_figures_without_a_network_and_no_secret(
        data, tmp_path, monkeypatch):  # noqa: F811
    wandb = pytest.importorskip('wandb', reason='needs the extra wandb')
    from wandb.proto.wandb_internal_pb2 import Record
    secret = 'f' * 20 + '0123456789' * 2
    for name, value in dict(WANDB_MODE='offline', WANDB_DIR=str(tmp_path), WANDB_API_KEY=secret).items():
        monkeypatch.setenv(name, value)
    run = train(data, tmp_path, log_wandb=True, wandb_project='tests', wandb_tags=['a'], **FLAGS)
    wandb.teardown()  # waits for the process that writes
    figures = {}
    for content in records_of_wandb(next(tmp_path.glob('wandb/offline-run-*/*.wandb'))):
        record = Record.FromString(content)
        items = {'/'.join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        figures.update({(items['_step'], name): value for name, value in items.items()
                        if not name.startswith(('_', 'inputs'))})
    assert figures == figures_of_log(run)
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.rglob('*') if path.is_file())


def test_trackio_itself_writes_the_figures_and_goes_on_with_the_run(data, tmp_path, monkeypatch):  # noqa: F811
    if importlib.util.find_spec('trackio') is None:
        pytest.skip('needs the extra trackio')
    monkeypatch.setenv('TRACKIO_DIR', str(tmp_path / 'trackio'))  # read where it is first imported
    flags = dict(log_trackio=True, trackio_project='tests', **FLAGS)
    train(data, tmp_path, stop_epoch=1, **flags)
    run = train(data, tmp_path, resume='auto', **flags)
    with sqlite3.connect(tmp_path / 'trackio' / 'tests.db') as database:
        rows = database.execute('SELECT step, run_id, metrics FROM metrics').fetchall()
    assert len({run_id for _, run_id, _ in rows}) == 1
    found = [(step, name, value) for step, _, text in rows for name, value in json.loads(text).items()]
    assert {(step, name): value for step, name, value in found if name != 'inputs'} == figures_of_log(run)
    assert len(found) == len({entry[:2] for entry in found})


@pytest.mark.parametrize('rows', ['0,0.98,1.5', '0,0.98,0.0', '0,2.0,3.0\n1,2.0,3.0', '4,0.98,-1'])
def test_the_curves_of_one_epoch_or_of_equal_values_begin_at_zero_and_name_whole_epochs(tmp_path, rows):
    from matplotlib import figure
    (tmp_path / 'summary.csv').write_text(f'epoch,train_loss,eval_box_ap\n{rows}\n')
    with patch.object(figure.Figure, 'savefig', autospec=True, side_effect=figure.Figure.savefig) as saved:
        plot.plot_curves(RunFolder(str(tmp_path)), 'box_ap')
    drawn = saved.call_args.args[0]
    epochs = {int(row.split(',')[0]) for row in rows.split('\n')}
    for axis in drawn.axes:
        low, high = axis.get_ylim()
        values = axis.lines[0].get_ydata()
        assert low <= min(0, *values) and high >= max(0, *values) and high - low >= 1
        ticks = {tick for tick in axis.get_xticks() if axis.get_xlim()[0] <= tick <= axis.get_xlim()[1]}
        assert ticks and ticks <= {*range(-1, 8)} and epochs <= ticks
