"""A run that is stopped anywhere and resumed ends as the undisturbed run does, to the last bit."""
import multiprocessing
import os
import signal
import threading
from unittest.mock import patch

import pytest
import torch
from PIL import Image
from train_helpers import (
    arguments,
    at_batch,
    error_line,
    make_image_folder,
    out_of_memory,
    read_log,
    read_summary,
    train,
)

from gradaug_timm import files
from gradaug_timm.files import read_checkpoint
from gradaug_timm.training.loop import signals
from gradaug_timm.training.loop.signals import Listener
from gradaug_timm.training.main import main

RECIPE = dict(
    model='gradaug_resnet20_cifar', gradaug_divisor=4, epochs=3, no_aug=None, color_jitter=0.4, reprob=0.5,
    remode='pixel', mixup=0.2, cutmix=1., drop=0.2, model_ema=True, model_ema_decay=0.9, opt='adamw',
    sched_on_updates=True, sched='cosine', batch_size=4, log_interval=2)
BATCHES = 5  # an epoch: 20 images


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Ten images of each of two classes, all different."""
    folder = make_image_folder(tmp_path_factory.mktemp('data'), images=10)
    for path in folder.rglob('*.png'):
        seed = sum(map(ord, str(path.relative_to(folder))))
        pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        Image.fromarray(pixels.numpy()).save(path)
    return folder


def stopped(data, output, *, after: int, by=signal.SIGTERM, **flags) -> int:
    """Runs train.py until a signal comes during batch number `after` of the process; returns the exit code."""
    signalled = at_batch(after, lambda *_: os.kill(os.getpid(), by))
    with signalled, patch.object(files, 'flush'), pytest.raises(SystemExit) as ended:
        main(arguments(data, output, experiment='run', resume='auto', **flags))
    return ended.value.code


def differences(one, other, path='') -> list[str]:
    """Where two checkpoints differ."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        keys = one.keys() | other.keys()
        return [found for key in keys for found in differences(one.get(key), other.get(key), f'{path}/{key}')]
    if isinstance(one, (list, tuple)) and len(one) == len(other):
        return [found for index, pair in enumerate(zip(one, other)) for found in differences(*pair, f'{path}/{index}')]
    return [] if one == other else [f'{path}: {one} != {other}']


def assert_equal_runs(one, other):
    """All that the last checkpoints hold, but the flags that say where they are; and tables and logs, but for times."""
    for name in ('last.pth.tar', 'model_best.pth.tar'):
        contents = [read_checkpoint(folder / name) for folder in (one, other)]
        for content in contents:
            del content['args']
        assert not differences(*contents)
    tables = [read_summary(folder) for folder in (one, other)]
    for row in (row for table in tables for row in table):
        del row['train_seconds']
    assert tables[0] == tables[1]
    times = {'time', 'train_seconds', 'step/images_per_second'}
    logs = [[{name: value for name, value in entry.items() if name not in times} for entry in read_log(folder)]
            for folder in (one, other)]
    assert logs[0] == logs[1]


@pytest.fixture(scope='module')
def undisturbed(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp('undisturbed'), **RECIPE)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('after', [1, BATCHES, BATCHES + 2])
def test_a_run_stopped_in_an_epoch_ends_as_the_undisturbed_run(data, undisturbed, tmp_path, after, workers):
    assert stopped(data, tmp_path, after=after, workers=workers, **RECIPE) == 143
    folder = train(data, tmp_path, resume='auto', workers=2 - workers, **RECIPE)
    assert_equal_runs(folder, undisturbed)


def test_data_workers_end_with_a_run_that_is_stopped(data, tmp_path):
    before = set(multiprocessing.active_children())
    assert stopped(data, tmp_path, after=1, workers=2, **RECIPE) == 143
    assert set(multiprocessing.active_children()) <= before


def test_a_run_stopped_after_epochs_ends_as_the_undisturbed_run(data, undisturbed, tmp_path):
    for last in (1, 2, None):
        folder = train(data, tmp_path, resume='auto', stop_epoch=last, **RECIPE)
    assert_equal_runs(folder, undisturbed)


def test_a_run_stopped_again_and_again_ends_as_the_undisturbed_run(data, undisturbed, tmp_path):
    for _ in range(BATCHES + 2):
        assert stopped(data, tmp_path, after=1, by=signal.SIGINT, **RECIPE) == 130
    assert_equal_runs(train(data, tmp_path, resume='auto', **RECIPE), undisturbed)


@pytest.mark.parametrize('flags', [
    dict(sched='plateau', sched_on_updates=None, decay_rate=0.5, patience_epochs=1, epochs=5),
    dict(grad_accum_steps=2),
    dict(device_augment=True, reflect_pad=2, color_jitter=0, reprob=0),
    dict(no_prefetcher=True),
    dict(train_img_sizes=[12, 16]),
    pytest.param(dict(amp=True, amp_dtype='float16'), marks=pytest.mark.slow),
    dict(opt='lookahead_adamw'),
    dict(model='resnet20_cifar', gradaug_divisor=None, stoch_depth=0.5),
    dict(model='resnet20_cifar', gradaug_divisor=None, shake_drop=0.5),
    dict(mixup_off_epoch=1, workers=1),
    dict(val_interval=3),
], ids=str)
def test_whatever_the_recipe_a_stop_changes_nothing(data, tmp_path, flags):
    recipe = {**RECIPE, **flags}
    whole = train(data, tmp_path / 'whole', **recipe)
    assert stopped(data, tmp_path / 'parts', after=BATCHES + 2, **recipe) == 143
    assert_equal_runs(train(data, tmp_path / 'parts', resume='auto', **recipe), whole)


def test_the_same_command_twice_gives_the_same_whatever_the_number_of_workers(data, undisturbed, tmp_path):
    assert_equal_runs(train(data, tmp_path, workers=2, **RECIPE), undisturbed)


def test_another_seed_gives_another_run(data, undisturbed, tmp_path):
    folder = train(data, tmp_path, seed=1, **RECIPE)
    with pytest.raises(AssertionError):
        assert_equal_runs(folder, undisturbed)


def test_a_loader_that_reads_on_goes_on_with_the_beginning_of_the_epoch_and_says_so(data, tmp_path, caplog):
    caplog.set_level('INFO')
    recipe = {**RECIPE, 'use_multi_epochs_loader': True, 'workers': 1}
    whole = train(data, tmp_path / 'whole', **recipe)
    assert stopped(data, tmp_path / 'parts', after=BATCHES + 2, **recipe) == 143
    assert read_checkpoint(tmp_path / 'parts' / 'run' / 'last.pth.tar')['position'] == dict(epoch=1, batch=0)
    assert 'resumes at the beginning of that epoch' in caplog.text
    assert_equal_runs(train(data, tmp_path / 'parts', resume='auto', **recipe), whole)


@pytest.mark.parametrize('flags, part', [
    (dict(batch_size=2), '--batch-size 2 (was 4)'),
    (dict(seed=1), '--seed 1 (was 42)'),
])
def test_what_would_change_the_rest_of_an_epoch_is_refused(data, tmp_path, capsys, flags, part):
    stopped(data, tmp_path, after=1, **RECIPE)
    line = error_line(capsys, arguments(data, tmp_path, experiment='run', resume='auto', **{**RECIPE, **flags}))
    assert part in line and '--start-epoch 0' in line
    train(data, tmp_path, resume='auto', start_epoch=0, **{**RECIPE, **flags, 'epochs': 1})


@pytest.mark.parametrize('flags', [dict(checkpoint_steps=3), dict(recovery_interval=3), dict(checkpoint_minutes=1e-9)])
def test_checkpoints_within_an_epoch_are_enough_after_a_kill(data, undisturbed, tmp_path, flags):
    with at_batch(BATCHES + 5, out_of_memory), pytest.raises(MemoryError):
        train(data, tmp_path, resume='auto', **flags, **RECIPE)
    position = read_checkpoint(tmp_path / 'run' / 'last.pth.tar')['position']
    assert position == dict(epoch=1, batch=4)
    assert_equal_runs(train(data, tmp_path, resume='auto', **flags, **RECIPE), undisturbed)


@pytest.fixture
def interrupts():
    """Ctrl-C raises KeyboardInterrupt, also in the processes of pytest-xdist, which ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_echo_of_a_signal_is_ignored_and_a_second_one_is_not(interrupts):
    listener = Listener()
    with pytest.raises(KeyboardInterrupt), listener.listening():
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        assert listener.signal == signal.SIGINT
        with patch.object(signals, 'ECHO', 0.):
            signal.raise_signal(signal.SIGINT)


def test_sigterm_never_ends_a_run_before_it_is_saved_however_late_it_is_repeated():
    listener = Listener()
    with patch.object(signals, 'ECHO', 0.), listener.listening():
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert listener.signal == signal.SIGTERM


def test_a_run_in_another_thread_is_trained_without_listening_to_signals(data, tmp_path):
    thread = threading.Thread(target=train, args=(data, tmp_path), kwargs={**RECIPE, 'epochs': 1, 'workers': 1})
    thread.start()
    thread.join()
    assert len(read_summary(tmp_path / 'run')) == 1
