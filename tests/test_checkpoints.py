"""Files of a run stay intact whenever the process dies, and files with a changed bit are rejected."""
import argparse
import errno
import os
import resource
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask
from torch import nn

from gradaug_timm import files
from gradaug_timm.files import duplicate, read_checkpoint, save_checkpoint, written_aside
from gradaug_timm.training.arguments import TrainSettings
from gradaug_timm.training.checkpoints.find import find_newest_checkpoint
from gradaug_timm.training.checkpoints.saver import Checkpoints
from gradaug_timm.training.checkpoints.schedules import restore_scheduler, scheduler_state
from gradaug_timm.training.checkpoints.state import CheckpointState, position_of
from gradaug_timm.training.position import Position

STATE = {
    'epoch': 3, 'args': argparse.Namespace(seed=1, model='net'), 'position': {'epoch': 4, 'batch': 0},
    'state_dict': {'weight': torch.randn(3, 4), 'count': torch.tensor(7)}, 'list': [1, 2.5, 'x', None],
}
DIED, FAILED = 77, 78


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, argparse.Namespace):
        return isinstance(other, argparse.Namespace) and same(vars(one), vars(other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize('mask', [0x01, 0x80, 0xff])
@pytest.mark.filterwarnings('error')
def test_a_byte_that_changed_is_noticed_or_changes_nothing(tmp_path, mask):
    path = tmp_path / 'last.pth.tar'
    save_checkpoint(STATE, path)
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1:])
        try:
            assert same(read_checkpoint(path), STATE), place
        except ValueError:
            refused += 1
    assert refused > len(whole) / 3  # the rest is padding, dates and what else nobody reads


def test_a_checkpoint_cut_off_anywhere_is_refused(tmp_path):
    path = tmp_path / 'last.pth.tar'
    save_checkpoint(STATE, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            read_checkpoint(path)


def test_a_checkpoint_of_the_format_without_checksums_is_read(tmp_path):
    torch.save(STATE, tmp_path / 'old.pth.tar', _use_new_zipfile_serialization=False)
    assert same(read_checkpoint(tmp_path / 'old.pth.tar'), STATE)


class LinearTask(ClassificationTask):
    def __init__(self):
        super().__init__(nn.Linear(2, 2), nn.CrossEntropyLoss(), verbose=False)


def store(folder, hist: int = 2) -> Checkpoints:
    """Checkpoints of a network of six numbers."""
    task = LinearTask()
    args = TrainSettings(model='net', num_classes=2, save_epochs=[2])
    return Checkpoints(
        model=task.trainable_module, optimizer=torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9), args=args,
        checkpoint_dir=str(folder), max_history=hist, task=task, scheduler=None, config={}, facts={'world_size': 1})


def train_to(checkpoints: Checkpoints, epoch: int, metric: float) -> None:
    """What the end of an epoch does, with weights that tell the epoch."""
    for weight in checkpoints.model.parameters():
        weight.data.fill_(epoch)
    checkpoints.save(Position(epoch), metric=metric)
    if epoch in checkpoints.args.save_epochs:
        checkpoints.save_milestone(epoch)


def continued(folder) -> Checkpoints:
    """As a process that resumes would go on."""
    checkpoints, path = store(folder), find_newest_checkpoint(str(folder))
    state = read_checkpoint(path)
    checkpoints.task.load_checkpoint_state(state['state_dict'])
    checkpoints.continue_from(path, CheckpointState.from_state(state))
    return checkpoints


def contents(folder) -> dict[str, object]:
    """Weights and ranking by file; partial files aren't anybody's."""
    found = {}
    for path in folder.glob('*.pth.tar'):
        state = read_checkpoint(path)
        found[path.name] = (float(state['state_dict']['bias'][0]), state['saver'])
    return found


STEPS = ('fsync', 'replace', 'link', 'remove')
METRICS = (50., 40., 45., 60.)


def die_at(call: int, work, *, after: bool) -> int:
    """Runs `work` in a child that ends, as by SIGKILL, at its call-th step towards the disk; returns its exit code."""
    child = os.fork()
    if not child:
        try:
            left = iter(range(call))
            for name in STEPS:
                setattr(os, name, dying(getattr(os, name), left, after))
            torch.save = half_written(torch.save, left)
            work()
            os._exit(0)
        finally:
            os._exit(FAILED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(function, left, after: bool):
    def step(*args, **kwargs):
        last = next(left, None) is None
        if last and not after:
            os._exit(DIED)
        result = function(*args, **kwargs)
        if last:
            os._exit(DIED)
        return result
    return step


def half_written(save, left):
    def step(state, file):
        if next(left, None) is None:
            file.write(b'half of it')
            file.flush()
            os._exit(DIED)
        save(state, file)
    return step


@pytest.mark.parametrize('after', [False, True], ids=['before', 'after'])
def test_a_process_killed_at_any_step_of_a_save_loses_nothing(tmp_path, after):
    whole = tmp_path / 'whole'
    whole.mkdir()
    undisturbed = store(whole)
    for epoch, metric in enumerate(METRICS, 1):
        train_to(undisturbed, epoch, metric)
    killed = 0
    for epoch, metric in enumerate(METRICS[1:], 2):
        for call in range(100):
            folder = tmp_path / f'{epoch}-{call}'
            folder.mkdir()
            before = store(folder)
            for number in range(1, epoch):
                train_to(before, number, METRICS[number - 1])
            ended = die_at(call, partial(train_to, before, epoch, metric), after=after)
            assert ended in (0, DIED)
            found = contents(folder)  # reads every file that isn't called partial
            assert found['last.pth.tar'][0] in (epoch - 1, epoch)
            assert found['model_best.pth.tar'][0] in {best_of(epoch - 1), best_of(epoch)}
            resumed = continued(folder)
            done = int(found['last.pth.tar'][0])
            for number in range(done + 1, len(METRICS) + 1):
                train_to(resumed, number, METRICS[number - 1])
            assert contents(folder) == contents(whole)
            assert weights_in(folder) == weights_in(whole)
            if not ended:
                break
            killed += 1
    assert killed > 20


def best_of(epoch: int) -> float:
    return float(METRICS.index(max(METRICS[:epoch])) + 1)


def weights_in(folder) -> tuple:
    from safetensors import safe_open
    with safe_open(folder / 'model_best.safetensors', 'pt') as file:
        return file.metadata()['epoch'], float(file.get_tensor('bias')[0])


def test_the_best_is_kept_and_the_worst_of_the_history_leaves(tmp_path):
    checkpoints = store(tmp_path)
    for epoch, metric in enumerate(METRICS, 1):
        train_to(checkpoints, epoch, metric)
    names = {path.name for path in tmp_path.glob('checkpoint-*')}
    assert names == {'checkpoint-0.pth.tar', 'checkpoint-3.pth.tar'}  # numbered from 0, metrics 50 and 60
    assert contents(tmp_path)['milestone-2.pth.tar'][0] == 2


def test_a_metric_that_is_no_number_is_never_the_best(tmp_path):
    checkpoints = store(tmp_path)
    train_to(checkpoints, 1, float('nan'))
    assert contents(tmp_path)['last.pth.tar'][0] == 1 and not (tmp_path / 'model_best.pth.tar').exists()
    train_to(checkpoints, 2, 1.)
    assert contents(tmp_path)['model_best.pth.tar'][0] == 2


@contextmanager
def small_disk(size: int):
    """No file may become larger: the system refuses to write, as where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('size', [0, 500, 2000])
def test_a_disk_that_is_full_costs_nothing_that_was_there(tmp_path, size):
    checkpoints = store(tmp_path)
    train_to(checkpoints, 1, 1.)
    before = contents(tmp_path)
    with small_disk(size), pytest.raises(OSError, match=r"last\.pth\.tar cannot be written: File too large"):
        train_to(checkpoints, 2, 2.)
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob('*.partial'))


def test_what_the_system_says_of_a_full_disk_is_in_the_message(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(OSError, match=r"x\.pth\.tar cannot be written: No space left on device"):
        save_checkpoint(STATE, tmp_path / 'x.pth.tar')
    assert not list(tmp_path.iterdir())


def test_a_file_and_its_folder_are_on_the_disk_before_and_after_it_takes_its_place(tmp_path, monkeypatch):
    calls = []
    for name in ('fsync', 'replace'):
        monkeypatch.setattr(files.os, name, recorded(calls, name, getattr(os, name)))
    with written_aside(tmp_path / 'x') as path:
        open(path, 'w').close()
    assert calls == [('fsync', 'x.partial'), ('replace', 'x.partial'), ('fsync', tmp_path.name)]


def recorded(calls: list, name: str, function):
    def call(what, *args):
        path = os.readlink(f'/proc/self/fd/{what}') if isinstance(what, int) else what
        calls.append((name, os.path.basename(path)))
        return function(what, *args)
    return call


def test_files_are_copied_where_there_are_no_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, 'no links')
    monkeypatch.setattr(files.os, 'link', no_links)
    (tmp_path / 'a').write_bytes(b'content')
    (tmp_path / 'b').write_bytes(b'old')
    duplicate(str(tmp_path / 'a'), str(tmp_path / 'b'))
    assert (tmp_path / 'b').read_bytes() == b'content'
    assert not os.path.samefile(tmp_path / 'a', tmp_path / 'b')


@pytest.mark.parametrize('damage', [b'', b'half', 'flipped', 'gone'])
def test_the_newest_whole_checkpoint_is_taken_where_the_last_is_damaged(tmp_path, caplog, damage):
    checkpoints = store(tmp_path, hist=3)
    for epoch in (1, 2, 3):
        train_to(checkpoints, epoch, 10. - epoch)  # the best is the oldest
    for name in ('last', 'checkpoint-2'):
        break_file(tmp_path / f'{name}.pth.tar', damage)
    assert find_newest_checkpoint(str(tmp_path)) == str(tmp_path / 'checkpoint-1.pth.tar')
    assert 'last.pth.tar cannot be read' in caplog.text and 'Resuming from' in caplog.text


def break_file(path, damage) -> None:
    content = bytearray(path.read_bytes())
    path.unlink()  # others may be links to it
    if damage == 'flipped':
        content[content.rindex(torch.tensor([3., 3.]).numpy().tobytes())] ^= 1
    if damage != 'gone':
        path.write_bytes(content if damage == 'flipped' else damage)


def test_only_damaged_checkpoints_are_an_error_and_none_at_all_is_a_new_run(tmp_path):
    assert find_newest_checkpoint(str(tmp_path / 'nowhere')) is None and find_newest_checkpoint(str(tmp_path)) is None
    (tmp_path / 'last.pth.tar').write_bytes(b'')
    torch.save([1], tmp_path / 'checkpoint-1.pth.tar')
    with pytest.raises(ValueError, match=r'last\.pth\.tar cannot be read: .*; .* has no other intact checkpoint'):
        find_newest_checkpoint(str(tmp_path))


@pytest.mark.parametrize(('state', 'expected'), [
    (dict(epoch=4, version=2), Position(5)),
    (dict(epoch=4), Position(4)),  # of timm before it had versions
    (dict(epoch=4, version=2, position=dict(epoch=5, batch=7)), Position(5, 7)),
    (dict(weight=torch.ones(1)), Position()),
])
def test_the_position_of_any_checkpoint_is_known(state, expected):
    assert position_of(state) == expected


@pytest.mark.filterwarnings('ignore:PlateauLRScheduler')
@pytest.mark.parametrize('noise', [None, 0.1])
def test_a_schedule_that_follows_the_metric_goes_on_exactly(noise):
    metrics, whole, parts = [5., 5., 4., 5., 3., 3., 3., 3., 3., 3.], [], []

    def create():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.)
        scheduler, _ = create_scheduler_v2(
            optimizer, 'plateau', num_epochs=8, patience_epochs=1, decay_rate=0.5, plateau_mode='min',
            noise=noise and [0.], warmup_epochs=1, noise_pct=0.3)
        return optimizer, scheduler

    optimizer, scheduler = create()
    for epoch, metric in enumerate(metrics, 1):
        scheduler.step(epoch, metric)
        whole.append(optimizer.param_groups[0]['lr'])
    optimizer, scheduler = create()
    for epoch, metric in enumerate(metrics, 1):
        state = optimizer.state_dict(), scheduler_state(scheduler)
        optimizer, scheduler = create()
        optimizer.load_state_dict(state[0])
        restore_scheduler(scheduler, state[1])
        scheduler.step(epoch, metric)
        parts.append(optimizer.param_groups[0]['lr'])
    assert parts == whole and len(set(whole)) > 2
