"""Runs from Python: the weights of train.py, with the user's own loggers and callbacks, which resume with the run."""
import datetime
import subprocess
import sys
from collections import defaultdict
from enum import IntEnum

import numpy as np
import pytest
import torch
from train_helpers import read_summary
from train_helpers import train as train_by_command

from gradaug_timm import Callback, Logger, TrainSettings, train
from gradaug_timm.files import read_checkpoint

FLAGS = dict(gradaug=True, epochs=3, batch_size=4, reprob=0.5, log_interval=1, checkpoint_steps=4)  # 6 batches an epoch


def settings(data, output, **changes) -> TrainSettings:
    given = dict(
        data_dir=data, num_classes=2, device='cpu', workers=0, img_size=16, model='resnet20_cifar',
        model_kwargs={'depth': 8}, lr=0.01, warmup_epochs=0, no_aug=True, output=output, experiment='run')
    return TrainSettings(**{**given, **FLAGS, **changes})


def weights(folder) -> dict:
    return read_checkpoint(f'{folder}/last.pth.tar')['state_dict']


class Recorder(Callback):
    """Notes what it is called for; counts updates over all sessions."""

    def __init__(self, stop_at: int | None = None):
        self.calls, self.updates, self.stop_at = [], 0, stop_at

    def after_update(self, run, update, losses):
        self.updates += 1
        self.calls.append(('update', update, sorted(losses)))
        assert losses['loss'].ndim == 0
        if update == self.stop_at:
            raise KeyboardInterrupt

    def after_validation(self, run, epoch, metrics):
        self.calls.append(('validation', epoch, metrics['top1']))

    def at_checkpoint(self, run, path):
        self.calls.append(('checkpoint', torch.load(path, weights_only=False)['position']))

    def state_dict(self):
        return {'updates': self.updates}

    def load_state_dict(self, state):
        self.updates = state['updates']


class Memory(Logger):
    """Keeps figures; its state is the number of those that were logged."""

    def __init__(self):
        self.figures, self.started, self.logged = [], None, 0

    def start(self, folder, *, continued_at):
        self.started = continued_at

    def log(self, values, step):
        self.figures.append((step, values))
        self.logged += 1

    def state_dict(self):
        return {'logged': self.logged}

    def load_state_dict(self, state):
        self.logged = state['logged']


def test_a_run_from_python_ends_with_the_weights_and_files_of_the_command_line(image_folder, tmp_path):
    by_command = train_by_command(image_folder, tmp_path / 'command', **FLAGS)
    result = train(settings(image_folder, tmp_path / 'python'))
    expected, found = weights(by_command), weights(result.folder)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    files = [{path.name for path in folder.iterdir()} for folder in (by_command, tmp_path / 'python' / 'run')]
    assert files[0] - {'learning_curves.png'} <= files[1]
    rows = read_summary(tmp_path / 'python' / 'run')
    assert [each['epoch'] for each in result.epochs] == [0, 1, 2]
    assert result.best == max(float(row['eval_top1']) for row in rows)


def test_callbacks_and_loggers_see_updates_validations_and_checkpoints_in_order(image_folder, tmp_path):
    recorder, memory = Recorder(), Memory()
    train(settings(image_folder, tmp_path, epochs=1), loggers=[memory], callbacks=[recorder])
    assert [call[:2] for call in recorder.calls] == [
        *(('update', number) for number in range(1, 5)), ('checkpoint', dict(epoch=0, batch=4)), ('update', 5),
        ('update', 6), ('validation', 0), ('checkpoint', dict(epoch=1, batch=0))]
    assert {'loss', 'loss_full', 'loss_subnet_0'} <= {*recorder.calls[0][2]}
    assert memory.started is None
    assert [step for step, values in memory.figures if 'step/loss' in values] == [1, 2, 3, 4, 5, 6]
    assert memory.figures[-1][1]['eval_top1'] == recorder.calls[-2][2]


def test_callbacks_and_loggers_resume_with_the_run(image_folder, tmp_path):
    whole, undisturbed = Recorder(), Memory()
    train(settings(image_folder, tmp_path / 'whole'), loggers=[undisturbed], callbacks=[whole])
    with pytest.raises(KeyboardInterrupt):
        train(settings(image_folder, tmp_path / 'parts'), loggers=[Memory()], callbacks=[Recorder(stop_at=10)])
    recorder, memory = Recorder(), Memory()
    result = train(
        settings(image_folder, tmp_path / 'parts', resume='auto'), loggers=[memory], callbacks=[recorder])
    assert recorder.updates == whole.updates == 18
    assert recorder.calls[0][1] == 9 and memory.started == 8, 'the checkpoint is that of update 8'
    assert memory.logged == undisturbed.logged
    expected, found = weights(tmp_path / 'whole' / 'run'), weights(result.folder)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


class Kind(IntEnum):
    FIRST = 1


@pytest.mark.parametrize('value', [object(), np.float64(0.5), np.int64(1), Kind.FIRST, defaultdict(int), {1, 2}])
def test_a_state_that_no_checkpoint_takes_is_named(image_folder, tmp_path, value):
    class Wrong(Callback):
        def state_dict(self):
            return {'run': [value]}
    with pytest.raises(ValueError, match=rf'Wrong.state_dict\(\) holds {type(value).__name__} .*checkpoints support'):
        train(settings(image_folder, tmp_path), callbacks=[Wrong()])


def test_a_callback_that_the_checkpoint_does_not_know_starts_anew_with_a_warning(image_folder, tmp_path, caplog):
    train(settings(image_folder, tmp_path, stop_epoch=1))
    recorder = Recorder()
    train(settings(image_folder, tmp_path, resume='auto', stop_epoch=2), callbacks=[recorder])
    assert recorder.updates == 6 and 'has no state of Recorder' in caplog.text


@pytest.mark.parametrize(('changes', 'problem'), [
    (dict(lr=-1, epochs=0), r"TrainSettings: epochs: .*at least 1.*lr: .*above 0|TrainSettings: lr: .*epochs: "),
    (dict(opt='adamww'), 'did you mean adamw'),
    (dict(sched='cosinus'), 'cosine'),
    (dict(mean='0.5'), 'mean must be a list of values, not str'),
    (dict(pretrained='yes'), 'pretrained must be true or false, not str'),
])
def test_a_setting_out_of_range_is_refused_when_it_is_made(image_folder, tmp_path, changes, problem):
    with pytest.raises(ValueError, match=problem):
        settings(image_folder, tmp_path, **changes)


@pytest.mark.parametrize(('changes', 'problem'), [
    (dict(sync_bn=True, split_bn=True), '--sync-bn and --split-bn exclude each other'),
    (dict(model='resnet5'), '--model resnet5 is unknown'),
    (dict(data_dir='nowhere'), 'nowhere'),
])
def test_settings_that_do_not_go_together_end_in_one_value_error_before_training(
        image_folder, tmp_path, changes, problem):
    with pytest.raises(ValueError, match=problem):
        train(settings(image_folder, tmp_path, **changes))
    assert not (tmp_path / 'run').exists()


def test_settings_are_frozen_all_the_way_down():
    made = TrainSettings(mean=[0.5, 0.4, 0.3])
    assert made.mean == (0.5, 0.4, 0.3)
    with pytest.raises(AttributeError):
        made.lr = 0.1


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != '.lock'}


class Refusing(Logger):
    def start(self, folder, *, continued_at):
        raise ValueError('refused')

    def log(self, values, step):
        """Nothing."""


@pytest.mark.parametrize('changes', [dict(overwrite=True), dict(resume='last.pth.tar')])
def test_a_logger_that_refuses_a_run_leaves_the_earlier_one_whole(image_folder, tmp_path, changes):
    folder = tmp_path / 'run'
    train(settings(image_folder, tmp_path, epochs=1))
    train(settings(image_folder, tmp_path, epochs=2, resume='auto'))
    first = min(folder.glob('checkpoint-*.pth.tar'))
    changes = {'resume': str(first)} if 'resume' in changes else changes
    before = content(folder)
    with pytest.raises(ValueError, match='refused'):
        train(settings(image_folder, tmp_path, **changes), loggers=[Refusing()])
    assert content(folder) == before


def test_a_complete_run_that_is_resumed_into_another_folder_deletes_nothing_there(image_folder, tmp_path):
    train(settings(image_folder, tmp_path, epochs=1))
    train(settings(image_folder, tmp_path, epochs=1, experiment='other'))
    before = content(tmp_path / 'other')
    train(settings(
        image_folder, tmp_path, epochs=1, experiment='other', overwrite=True,
        resume=str(tmp_path / 'run' / 'last.pth.tar')))
    assert content(tmp_path / 'other') == before


def test_another_process_can_resume_whatever_this_one_still_holds_of_a_run(image_folder, tmp_path):
    class Keeping(Callback):
        def after_update(self, run, update, losses):
            self.run = run
            if update == 8:
                raise KeyError('mine')
    keeping = Keeping()
    with pytest.raises(KeyError) as kept:
        train(settings(image_folder, tmp_path), callbacks=[keeping])
    assert kept.value and keeping.run.folder is not None
    code = (f'from gradaug_timm.training.outputs.folder import hold_folder; hold_folder({str(tmp_path / "run")!r}); '
            'print("free")')
    other = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert other.stdout == 'free\n', other.stderr


@pytest.mark.parametrize(('given', 'problem'), [
    (dict(callbacks=[Recorder]), 'callbacks must be a list of objects of Callback'),
    (dict(loggers=Memory()), 'loggers must be a list of objects of Logger'),
])
def test_what_is_no_callback_or_logger_is_refused_before_training(image_folder, tmp_path, given, problem):
    with pytest.raises(ValueError, match=problem):
        train(settings(image_folder, tmp_path), **given)
    assert not (tmp_path / 'run').exists()


def test_modules_that_settings_name_are_imported(image_folder, tmp_path):
    with pytest.raises(ValueError, match='--device-modules no_such_module cannot be imported'):
        train(settings(image_folder, tmp_path, device_modules=('no_such_module',)))


def test_mappings_are_copied_and_hold_plain_values():
    given = {'depth': 8}
    made = TrainSettings(model_kwargs=given)
    given['depth'] = 14
    assert made.model_kwargs == {'depth': 8}
    for value in (datetime.date(2020, 1, 1), np.int64(8)):
        with pytest.raises(ValueError, match=f'model_kwargs holds {type(value).__name__}'):
            TrainSettings(model_kwargs={'depth': [value]})


def test_numbers_of_numpy_are_numbers():
    made = TrainSettings(epochs=np.int64(3), lr=np.float32(0.5))
    assert (made.epochs, made.lr) == (3, 0.5) and type(made.epochs) is int and type(made.lr) is float
