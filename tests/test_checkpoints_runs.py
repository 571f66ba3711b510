# ruff: noqa: F811  (fixtures of another file are arguments here)
"""Checkpoints of train.py: which are resumed, which are rejected, and which other programs can load."""
import json
import logging
import os
import shutil

import pytest
import timm
import torch
from safetensors import safe_open
from test_checkpoints import small_disk
from test_resuming import BATCHES, RECIPE, assert_equal_runs, data, stopped, undisturbed  # noqa: F401  fixtures
from train_helpers import arguments, at_batch, error_line, read_summary, train

from gradaug_timm.convert import main as convert
from gradaug_timm.evaluation.main import main as validate
from gradaug_timm.extraction.main import main as extract
from gradaug_timm.files import read_checkpoint, save_checkpoint
from gradaug_timm.training import prepare
from gradaug_timm.training.main import main
from gradaug_timm.training.outputs.folder import hold_folder

PLAIN = dict(model='resnet20_cifar', batch_size=4, epochs=2, lr=0.05)


@pytest.fixture(scope='module')
def begun(data, tmp_path_factory):
    """The folder of a run that has two of its three epochs."""
    return train(data, tmp_path_factory.mktemp('begun'), stop_epoch=2, checkpoint_hist=3, **RECIPE)


@pytest.fixture(scope='module')
def plain(data, tmp_path_factory):
    """The folder of a short run without GradAug, of one epoch."""
    return train(data, tmp_path_factory.mktemp('plain'), stop_epoch=1, **PLAIN)


def copied(folder, tmp_path):
    """A folder of its own, to go on in; files that were one stay one, as `cp -a` keeps them."""
    target = tmp_path / 'run'
    target.mkdir(parents=True)
    inodes = {}
    for path in folder.iterdir():
        first = inodes.setdefault(path.stat().st_ino, target / path.name)
        os.link(first, target / path.name) if first.exists() else shutil.copy2(path, first)
    return target


def flip(path) -> None:
    """Changes a bit of the numbers in a file, under no other name that it has."""
    content = bytearray(path.read_bytes())
    path.unlink()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def snapshot(folder) -> dict:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize('broken', [['last'], ['last', 'checkpoint-1', 'model_best']])
def test_a_damaged_newest_checkpoint_costs_epochs_but_no_exactness(
        begun, undisturbed, data, tmp_path, caplog, broken):
    folder = copied(begun, tmp_path)
    for name in broken:
        flip(folder / f'{name}.pth.tar')
    train(data, tmp_path, resume='auto', **RECIPE)
    assert 'Resuming from' in caplog.text
    assert_equal_runs(folder, undisturbed)


def test_a_folder_of_damaged_checkpoints_is_refused_and_stays_as_it_is(begun, data, tmp_path, capsys):
    folder = copied(begun, tmp_path)
    for path in list(folder.glob('*.pth.tar')):
        flip(path)
    before = snapshot(folder)
    for flags in (dict(), dict(overwrite=True)):
        error = error_line(capsys, arguments(data, tmp_path, experiment='run', resume='auto', **RECIPE, **flags))
        assert '--resume auto' in error and 'last.pth.tar cannot be read: it is damaged' in error
    assert snapshot(folder) == before


def test_a_run_killed_before_its_first_checkpoint_starts_afresh(plain, data, tmp_path, capsys):
    folder = copied(plain, tmp_path)
    for path in [*folder.glob('*.pth.tar'), *folder.glob('*.safetensors')]:
        path.unlink()
    (folder / 'last.pth.tar.partial').write_bytes(b'half')
    argv = arguments(data, tmp_path, experiment='run', **PLAIN)
    assert 'already exists with an earlier run' in error_line(capsys, argv)
    train(data, tmp_path, resume='auto', **PLAIN)
    assert [row['epoch'] for row in read_summary(folder)] == ['0', '1']
    assert not list(folder.glob('*.partial'))


def test_a_table_of_epochs_without_checkpoints_is_not_thrown_away(data, tmp_path, capsys):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'summary.csv').write_text('epoch,train_loss\n0,1.0\n1,0.5\n')
    argv = arguments(data, tmp_path, experiment='run', resume='auto', **PLAIN)
    assert 'already exists with an earlier run (summary.csv)' in error_line(capsys, argv)


@pytest.mark.parametrize('flags', [
    dict(lr=0.1), dict(weight_decay=0.1), dict(momentum=0.5), dict(opt_eps=1e-3), dict(decay_all_parameters=True),
], ids=str)
def test_flags_that_the_optimizers_state_would_outdo_are_refused(plain, data, tmp_path, capsys, flags):
    (name, value), = flags.items()
    shown = ' '.join(map(str, value)) if isinstance(value, list) else value
    path = plain / 'last.pth.tar'
    error = error_line(capsys, arguments(data, tmp_path, resume=path, **{**PLAIN, **flags}))
    assert f'--{name.replace("_", "-")} {shown}: the checkpoint {path} was trained with' in error
    train(data, tmp_path, resume=path, no_resume_opt=True, **{**PLAIN, **flags})


def test_other_flags_at_the_end_of_an_epoch_are_named_and_free_ones_are_not(plain, data, tmp_path, caplog):
    flags = dict(seed=7, mixup=0.2, workers=1, log_interval=3)
    with caplog.at_level(logging.WARNING):
        train(data, tmp_path, resume=plain / 'last.pth.tar', **PLAIN, **flags)
    told, = [record.message for record in caplog.records if 'uses different settings' in record.message]
    assert told.endswith('uses different settings than the run it resumes: --mixup 0.2 (was 0.0), --seed 7 (was 42).')


def test_the_same_flags_are_gone_on_with_without_a_word(plain, data, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        train(data, tmp_path, resume=plain / 'last.pth.tar', **PLAIN)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(('flags', 'wanted'), [
    (dict(mixup=0.), '--mixup 0.0 (was 0.2)'),
    (dict(reprob=0.1, grad_accum_steps=2), '--grad-accum-steps 2 (was 1), --reprob 0.1 (was 0.5)'),
    (dict(data=None), 'training images: 16 (was 20)'),
])
def test_what_changes_the_rest_of_an_epoch_is_refused(data, tmp_path, capsys, flags, wanted):
    assert stopped(data, tmp_path, after=2, **RECIPE) == 143
    if 'data' in flags:
        data = shutil.copytree(data, tmp_path / 'data')
        for path in sorted(data.glob('train/*/*.png'))[::5]:
            path.unlink()
        flags = {}
    error = error_line(capsys, arguments(data, tmp_path, experiment='run', resume='auto', **{**RECIPE, **flags}))
    assert 'stopped within epoch 0' in error and all(part in error for part in wanted.split(', '))


def test_a_plateau_is_gone_on_with_where_the_rate_has_sunk(data, tmp_path):
    recipe = {**PLAIN, 'epochs': 6, 'sched': 'plateau', 'patience_epochs': 0, 'decay_rate': 0.5, 'eval_metric': 'top1'}
    whole = train(data, tmp_path / 'whole', **recipe)
    train(data, tmp_path / 'parts', stop_epoch=4, **recipe)
    assert_equal_runs(train(data, tmp_path / 'parts', resume='auto', **recipe), whole)
    assert len({row['lr'] for row in read_summary(whole)}) > 2


def test_a_finished_run_that_is_resumed_says_so_and_keeps_every_byte(data, tmp_path, caplog, capsys):
    flags = dict(PLAIN, epochs=1)
    folder = train(data, tmp_path, **flags)
    before = snapshot(folder)
    with caplog.at_level(logging.INFO):
        train(data, tmp_path, resume='auto', log_interval=7, **flags)
    assert 'has already completed 1 epochs' in caplog.text and 'Best top1' in capsys.readouterr().out
    assert {name: content for name, (content, _) in snapshot(folder).items()} == {
        name: content for name, (content, _) in before.items()}


def test_a_full_disk_ends_a_run_with_one_line_and_what_was_saved_is_whole(data, tmp_path, capsys):
    folder = train(data, tmp_path, stop_epoch=1, **PLAIN)
    before = (folder / 'last.pth.tar').read_bytes()
    with small_disk(100_000), pytest.raises(SystemExit) as ended:
        train(data, tmp_path, resume='auto', **PLAIN)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('train.py: error:')]
    assert lines == [f'train.py: error: {folder}/last.pth.tar cannot be written: File too large']
    assert ended.value.code == 1
    assert (folder / 'last.pth.tar').read_bytes() == before and not list(folder.glob('*.partial'))
    train(data, tmp_path, resume='auto', **PLAIN)
    assert [row['epoch'] for row in read_summary(folder)] == ['0', '1']


def test_a_folder_is_kept_from_other_processes_while_a_run_writes_to_it(data, tmp_path):
    (tmp_path / 'run').mkdir()
    held = hold_folder(str(tmp_path / 'run'))
    assert second_process(data, tmp_path) == 2
    assert not (tmp_path / 'run' / 'summary.csv').exists()
    held.release()
    assert second_process(data, tmp_path) == 0


def second_process(data, tmp_path) -> int:
    child = os.fork()
    if not child:
        code = 1
        try:
            train(data, tmp_path, **PLAIN)
            code = 0
        except SystemExit as ended:
            code = ended.code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_an_experiment_that_leads_out_of_the_output_folder_is_refused(data, tmp_path, capsys):
    (tmp_path / 'output').mkdir()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'output' / 'link').symlink_to(tmp_path / 'elsewhere')
    for name in ('link', '../elsewhere', str(tmp_path / 'elsewhere'), '.'):
        error = error_line(capsys, arguments(data, tmp_path / 'output', experiment=name))
        assert f'--experiment {name} must be a name inside' in error
    assert not list((tmp_path / 'elsewhere').iterdir())


def test_the_best_weights_are_loaded_by_plain_timm(undisturbed):
    path = undisturbed / 'model_best.safetensors'
    network = timm.create_model('resnet20_cifar', num_classes=2, depth=8, checkpoint_path=str(path))
    best = read_checkpoint(undisturbed / 'model_best.pth.tar')
    state = network.state_dict()
    assert state.keys() == best['state_dict_ema'].keys()
    assert all(torch.equal(state[name], average) for name, average in best['state_dict_ema'].items())
    with safe_open(path, 'pt') as file:
        facts = file.metadata()
    assert facts['weights'] == 'averaged' and facts['epoch'] == str(best['epoch'])
    assert json.loads(facts['architecture']) == 'resnet20_cifar' and json.loads(facts['model_kwargs']) == {'depth': 8}
    assert json.loads(facts['pretrained_cfg'])['input_size'] == [3, 16, 16]
    assert json.loads(facts['gradaug'])['divisor'] == 4 and json.loads(facts['num_classes']) == 2


def test_the_best_weights_are_evaluated_as_their_checkpoint_is(data, tmp_path, capsys):
    folder = train(data, tmp_path, stoch_depth=0.5, **{**PLAIN, 'epochs': 1})
    results = []
    for name in ('model_best.pth.tar', 'model_best.safetensors'):
        capsys.readouterr()
        validate(evaluation(data, folder / name))
        results.append(json.loads(capsys.readouterr().out.removeprefix('--result\n')))
    assert results[0]['loss'] == results[1]['loss']


def evaluation(data, path) -> list[str]:
    return [
        '--data-dir', str(data), '--model', 'resnet20_cifar', '--model-kwargs', 'depth=8', '--num-classes', '2',
        '--img-size', '16', '-b', '8', '-j', '0', '--device', 'cpu', '--checkpoint', str(path)]


@pytest.mark.parametrize('reader', ['resume', 'initial_checkpoint', 'pretrained_path', 'kd_checkpoint', 'validate',
                                    'extract', 'convert'])
def test_a_flipped_bit_is_noticed_by_whatever_reads_a_checkpoint(plain, data, tmp_path, capsys, reader):
    path = tmp_path / 'damaged.pth.tar'
    content = read_checkpoint(plain / 'last.pth.tar')
    save_checkpoint({'zeros': torch.zeros(200_000), **content}, path)  # a bit of what no one needs
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(bytes(4096))] ^= 1
    path.write_bytes(damaged)
    extra = {'pretrained': True} if reader == 'pretrained_path' else {}
    extra |= {'kd_model_name': 'resnet20_cifar'} if reader == 'kd_checkpoint' else {}
    commands = {
        'validate': (validate, evaluation(data, path)),
        'extract': (extract, [str(path), '--width', '0.5', '--output', str(tmp_path / 'out.safetensors')]),
        'convert': (convert, [str(path), str(tmp_path / 'out.safetensors')]),
    }
    flags = {reader: path, **PLAIN, **extra}
    command, argv = commands.get(reader) or (main, arguments(data, tmp_path / 'runs', **flags))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        command(argv)
    error, = [line for line in capsys.readouterr().err.splitlines() if ': error:' in line]
    assert ended.value.code == 2 and 'damaged' in error and str(path) in error and 'checksum' in error
    assert not (tmp_path / 'out.safetensors').exists() and not (tmp_path / 'runs').exists()


def test_the_two_names_of_one_flag_exclude_each_other(data, tmp_path, capsys):
    argv = arguments(data, tmp_path, checkpoint_steps=2, recovery_interval=2)
    assert '--checkpoint-steps and --recovery-interval exclude each other' in error_line(capsys, argv)


def test_overwrite_deletes_nothing_where_the_schedule_is_refused(data, tmp_path, capsys):
    folder = train(data, tmp_path, **{**PLAIN, 'epochs': 1})
    before = {name: content for name, (content, _) in snapshot(folder).items()}
    flags = {**PLAIN, 'sched': 'wsd', 'decay_epochs': 50}
    line = error_line(capsys, arguments(data, tmp_path, experiment='run', overwrite=True, **flags))
    assert 'wsd schedule requires' in line
    assert {name: content for name, (content, _) in snapshot(folder).items()} == before


def test_an_epoch_whose_validation_fails_is_kept_and_validated_when_the_run_resumes(data, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise TypeError('of a metric')
    whole = train(data, tmp_path, experiment='whole', **PLAIN)
    with monkeypatch.context() as patched, pytest.raises(TypeError):
        patched.setattr(prepare, 'evaluate', fails)
        train(data, tmp_path, **PLAIN)
    with at_batch(None, lambda *_: None) as seen:
        parts = train(data, tmp_path, resume='auto', **PLAIN)
    batches = -(-sum(1 for path in (data / 'train').rglob('*.png')) // PLAIN['batch_size'])
    assert len(seen) == batches, 'only the second epoch is trained'
    assert_equal_runs(whole, parts)
