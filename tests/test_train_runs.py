"""Runs of train.py end to end: stopping, milestones, resuming, and what composes with them."""
import logging
import math

import pytest
import torch
import yaml
from timm.utils import load_checkpoint_metadata
from train_helpers import arguments, error_line, make_image_folder, read_summary, train

from gradaug_timm.training.loop import epochs as schedule
from gradaug_timm.training.main import main
from gradaug_timm.training.run import accumulation


def epochs_of(folder) -> list[int]:
    return [int(row['epoch']) for row in read_summary(folder)]


def checkpoint_epoch(path) -> int:
    return load_checkpoint_metadata(path)['epoch']


def losses(folder) -> list[float]:
    return [float(row['train_loss']) for row in read_summary(folder)]


def test_a_run_leaves_table_checkpoint_flags_and_picture(image_folder, tmp_path, capsys):
    folder = train(image_folder, tmp_path, epochs=2, picture=True)
    printed = capsys.readouterr().out
    names = {path.name for path in folder.iterdir()}
    assert {'summary.csv', 'args.yaml', 'last.pth.tar', 'model_best.pth.tar', 'learning_curves.png'} <= names
    rows = read_summary(folder)
    best = max(rows, key=lambda row: float(row['eval_top1']))
    assert f'Final top1  {float(rows[-1]["eval_top1"]):.2f} (epoch 1)' in printed
    assert f'Best top1   {float(best["eval_top1"]):.2f} (epoch {best["epoch"]})' in printed
    assert str(folder / 'model_best.pth.tar') in printed and str(folder / 'learning_curves.png') in printed
    assert (folder / 'learning_curves.png').read_bytes()[:4] == b'\x89PNG'


def test_a_checkpoint_is_safe_to_load_and_holds_the_flags(image_folder, tmp_path):
    folder = train(image_folder, tmp_path, model='gradaug_resnet20_cifar', gradaug_sizes=['1', '6/7'])
    checkpoint = load_checkpoint_metadata(folder / 'last.pth.tar')  # weights_only
    assert checkpoint['arch'] == 'gradaug_resnet20_cifar' and checkpoint['args'].num_classes == 2
    assert checkpoint['task_state']['step'] == 3


def test_stop_epoch_and_milestones_are_evaluated_between_intervals(image_folder, tmp_path):
    folder = train(image_folder, tmp_path, epochs=4, stop_epoch=2, save_epochs=[1, 2], val_interval=2)
    assert epochs_of(folder) == [0, 1]
    assert (folder / 'milestone-1.pth.tar').exists()
    assert checkpoint_epoch(folder / 'milestone-2.pth.tar') == 1
    assert checkpoint_epoch(folder / 'last.pth.tar') == 1
    args = yaml.safe_load((folder / 'args.yaml').read_text())
    assert args['epochs'] == 4 and args['stop_epoch'] == 2


def test_resume_auto_continues_in_place_and_a_finished_run_stays_as_it_is(image_folder, tmp_path, caplog):
    flags = dict(epochs=4, resume='auto', checkpoint_hist=2, model='gradaug_resnet20_cifar')
    folder = train(image_folder, tmp_path, stop_epoch=2, **flags)
    assert epochs_of(folder) == [0, 1]
    train(image_folder, tmp_path, **flags)
    assert epochs_of(folder) == [0, 1, 2, 3]
    assert checkpoint_epoch(folder / 'last.pth.tar') == 3
    assert load_checkpoint_metadata(folder / 'last.pth.tar')['task_state']['step'] == 12
    assert len(list(folder.glob('checkpoint-*.pth.tar'))) == 2
    rows = read_summary(folder)
    best = max(range(4), key=lambda i: (float(rows[i]['eval_top1']), -i))
    assert checkpoint_epoch(folder / 'model_best.pth.tar') == best
    assert yaml.safe_load((folder / 'args.yaml').read_text())['resume'] == 'auto'
    table = (folder / 'summary.csv').read_bytes()
    with caplog.at_level(logging.INFO):
        train(image_folder, tmp_path, **flags)
    assert (folder / 'summary.csv').read_bytes() == table
    assert 'has already completed 4 epochs' in caplog.text


def test_the_schedule_of_a_resumed_run_is_that_of_a_run_in_one_go(image_folder, tmp_path):
    flags = dict(epochs=4, sched_on_updates=True, lr=0.05)
    whole = train(image_folder, tmp_path, experiment='whole', **flags)
    train(image_folder, tmp_path, experiment='parts', stop_epoch=2, **flags)
    parts = train(image_folder, tmp_path, experiment='parts', resume='auto', **flags)
    rates = [[float(row['lr']) for row in read_summary(folder)] for folder in (whole, parts)]
    assert rates[0] == pytest.approx(rates[1])
    assert rates[0][0] > rates[0][-1]


def test_a_used_folder_is_refused_unless_overwritten(image_folder, tmp_path, capsys):
    folder = train(image_folder, tmp_path, epochs=2, save_epochs=[1])
    error = error_line(capsys, arguments(image_folder, tmp_path, experiment='run'))
    assert 'already exists with an earlier run' in error and '--overwrite' in error
    train(image_folder, tmp_path, overwrite=True)
    assert epochs_of(folder) == [0]
    assert not list(folder.glob('milestone-*'))


def test_runs_without_a_name_get_different_folders(image_folder, tmp_path):
    for _ in range(2):
        main(arguments(image_folder, tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize('flags', [
    dict(),
    dict(gradaug=True),
    dict(gradaug=True, gradaug_mode='depth'),
    dict(gradaug=True, gradaug_mode='both', gradaug_rotation=[-5, 5]),
    dict(gradaug=True, gradaug_interval=2),
    dict(gradaug=True, amp=True, amp_dtype='bfloat16'),
    dict(gradaug=True, amp=True, amp_dtype='float16'),
    dict(gradaug=True, model_ema=True, model_ema_decay=0.5),
    dict(gradaug=True, mixup=0.2, cutmix=1., cutmix_minmax=None),
    dict(gradaug=True, mixup=0.2, mixup_mode='elem', no_prefetcher=True),
    dict(gradaug=True, cutmix=1., mixup_mode='pair'),
    dict(gradaug=True, bce_loss=True),
    dict(gradaug=True, batch_size=4, grad_accum_steps=4),
    dict(gradaug=True, clip_grad=1.),
    dict(gradaug=True, clip_grad=0.1, clip_mode='agc', opt='adamw', lr=0.001),
    dict(gradaug=True, channels_last=True),
    dict(gradaug=True, grad_checkpointing=True),
    pytest.param(
        dict(gradaug=True, torchcompile='aot_eager', gradaug_width_steps=1, gradaug_sizes=[1]), marks=pytest.mark.slow),
    dict(gradaug=True, sched_on_updates=True, warmup_epochs=1),
    dict(gradaug=True, opt='lookahead_sgd'),
    dict(train_img_sizes=[16, 20], variable_batch_loss_scale='linear'),
    dict(aug_splits=2, no_aug=None, jsd_loss=True),
    dict(opt='adahessian', lr=0.01),
], ids=lambda flags: '-'.join(flags) or 'plain')
def test_training_lowers_a_finite_loss(image_folder, tmp_path, flags):
    folder = train(image_folder, tmp_path, epochs=2, lr=flags.pop('lr', 0.05), log_interval=1, **flags)
    trained = losses(folder)
    assert all(map(math.isfinite, trained))
    assert trained[-1] < trained[0]


@pytest.mark.parametrize('kind', ['logit', 'feature'])
def test_timms_distillation_trains_and_logs_its_losses(image_folder, tmp_path, monkeypatch, kind):
    from timm.task import distillation
    create = distillation.create_model
    monkeypatch.setattr(distillation, 'create_model', lambda *args, **kw: create(*args, **{**kw, 'pretrained': False}))
    folder = train(image_folder, tmp_path, kd_model_name='resnet20_cifar', kd_distill_type=kind)
    assert {'train_task_loss', 'train_kd_loss'} <= set(read_summary(folder)[0])


def test_all_losses_of_the_task_are_in_the_table_by_name(image_folder, tmp_path):
    folder = train(image_folder, tmp_path, gradaug=True, gradaug_subnets=2, gradaug_weight=0.5)
    row = {name: float(value) for name, value in read_summary(folder)[0].items()}
    parts = row['train_loss_full'] + row['train_loss_subnet_0'] + row['train_loss_subnet_1']
    assert row['train_loss'] == pytest.approx(parts, rel=1e-5)


def test_sub_networks_stop_at_their_off_epoch(image_folder, tmp_path):
    folder = train(image_folder, tmp_path, gradaug=True, epochs=2, gradaug_off_epoch=1)
    first, second = read_summary(folder)
    assert first['train_loss_subnet_0'] and not second['train_loss_subnet_0']
    assert second['train_loss'] == second['train_loss_full']


def test_zero_sub_networks_train_like_the_plain_task(image_folder, tmp_path):
    plain = train(image_folder, tmp_path, experiment='plain', epochs=2)
    zero = train(image_folder, tmp_path, experiment='zero', epochs=2, gradaug=True, gradaug_subnets=0)
    weights = [load_checkpoint_metadata(folder / 'last.pth.tar')['state_dict'] for folder in (plain, zero)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_registered_model_trains_plainly_where_gradaug_is_off(image_folder, tmp_path):
    folder = train(image_folder, tmp_path, model='gradaug_resnet20_cifar', no_gradaug=True, gradaug_subnets=2)
    assert [name for name in read_summary(folder)[0] if name.startswith('train_loss')] == ['train_loss']


def test_the_log_says_what_is_on_and_what_it_costs(image_folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        train(image_folder, tmp_path, model='gradaug_resnet20_cifar', gradaug_subnets=1)
    lines = [record.message for record in caplog.records if record.message.startswith('GradAug is on')]
    assert len(lines) == 1
    for wanted in ('subnets 1', 'min_width 0.8', 'sizes 1/0.875/0.75', 'times a plain one'):
        assert wanted in lines[0]


def test_a_divisor_that_hardly_narrows_the_network_is_warned_of(image_folder, tmp_path, caplog):
    for divisor, width, warned in ((4, 0.96, True), (1, 0.9, False)):
        caplog.clear()
        train(image_folder, tmp_path, gradaug=True, gradaug_divisor=divisor, gradaug_min_width=width, overwrite=True)
        assert ('Width 0.96 keeps 97%' in caplog.text and '--gradaug-divisor 1 keeps' in caplog.text) == warned


def test_moving_averages_are_what_is_validated_and_resumed(image_folder, tmp_path):
    flags = dict(epochs=2, model_ema=True, model_ema_decay=0.5, resume='auto')
    folder = train(image_folder, tmp_path, stop_epoch=1, **flags)
    before = load_checkpoint_metadata(folder / 'last.pth.tar')
    assert any(not torch.equal(before['state_dict'][name], average)
               for name, average in before['state_dict_ema'].items())
    train(image_folder, tmp_path, **flags)
    assert checkpoint_epoch(folder / 'last.pth.tar') == 1


def test_training_without_validation_ranks_by_the_training_loss(image_folder, tmp_path):
    folder = train(image_folder, tmp_path, val_split='', epochs=2)
    rows = read_summary(folder)
    assert not any(name.startswith('eval_') for name in rows[0])
    assert load_checkpoint_metadata(folder / 'last.pth.tar')['metric'] == pytest.approx(float(rows[-1]['train_loss']))


def test_a_lost_run_ends_with_one_line_and_an_error(image_folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        train(image_folder, tmp_path, epochs=3, lr=1e30, log_interval=1)
    error = capsys.readouterr()
    assert ended.value.code == 1
    assert 'the loss is no longer finite in epoch' in error.err
    assert '--result' not in error.out


def test_an_interrupted_run_is_not_reported_as_finished(image_folder, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt
    monkeypatch.setattr(schedule, 'train_epoch', interrupt)
    with pytest.raises(SystemExit) as ended:
        train(image_folder, tmp_path)
    assert ended.value.code == 130
    assert '--result' not in capsys.readouterr().out


@pytest.mark.parametrize(('flags', 'wanted'), [
    (dict(aug_repeats=3), 'repeats images over several processes'),
    (dict(batch_size=64), '--batch-size 64 is larger'),
    (dict(num_classes=1), '--num-classes 1 is too small: the data set has labels 0 to 1'),
    (dict(val_split='test'), "no folder for split 'test'"),
    (dict(data_dir='/nowhere'), '--data-dir /nowhere does not exist'),
    (dict(data_dir=None), '--data-dir is missing'),
    (dict(target_key='label', input_key='img'), '--input-key and --target-key: image folders and tar files have no'),
    (dict(device='nonsense'), '--device nonsense does not exist; found '),
    (dict(model_kwargs='depht=8'), '--model resnet20_cifar cannot be built'),
    (dict(gradaug=True, gradaug_min_width=0), '--gradaug-min-width'),
    (dict(model='resnetblur18', model_kwargs=None, gradaug=True, gradaug_sizes=[8]), '--gradaug-sizes 8: the'),
    (dict(gradaug=True, gradaug_divisor=10000), '--gradaug-divisor 10000: width 0.8 keeps all channels of --model'),
    (dict(task='multilabel'), '--task multilabel: images in class folders have one label'),
    (dict(gradaug=True, channels_last=True, gradaug_divisor=4), '--gradaug-divisor that is a multiple of 8, not 4'),
    (dict(model='mobileone_s0', model_kwargs=None, channels_last=True), 'stem.conv_scale.conv, a strided 1x1 convol'),
])
def test_what_cannot_be_trained_is_refused_before_training(image_folder, tmp_path, capsys, flags, wanted):
    argv = arguments(image_folder, tmp_path, **{'experiment': 'run', **flags})
    assert wanted in error_line(capsys, argv)
    assert not (tmp_path / 'run').exists()


def test_other_class_folders_in_validation_are_refused(tmp_path, capsys):
    data = make_image_folder(tmp_path / 'data', splits=('train',))
    make_image_folder(data, splits=('validation',), classes='ac')
    error = error_line(capsys, arguments(data, tmp_path, batch_size=2))
    assert 'validation has classes that training does not have: c' in error


def test_a_broken_checkpoint_is_refused_in_one_line(image_folder, tmp_path, capsys):
    broken = tmp_path / 'broken.pth.tar'
    broken.write_bytes(b'no checkpoint')
    error = error_line(capsys, arguments(image_folder, tmp_path, resume=broken))
    assert f'--resume {broken} cannot be loaded' in error


def test_a_checkpoint_of_another_network_is_refused_in_one_line(image_folder, tmp_path, capsys):
    folder = train(image_folder, tmp_path)
    argv = arguments(image_folder, tmp_path, model_kwargs='depth=14', resume=folder / 'last.pth.tar')
    assert 'cannot be loaded' in error_line(capsys, argv)


@pytest.mark.parametrize(('flags', 'wanted'), [
    (dict(opt='adamw'), '--opt adamw: the checkpoint {} was trained with sgd (--no-resume-opt skips'),
    (dict(model='gradaug_resnet20_cifar'), '--model gradaug_resnet20_cifar: the checkpoint {} was trained with'),
    (dict(gradaug_divisor=4), '--gradaug-divisor 4: the checkpoint {} was trained with 8'),
    (dict(gradaug_sizes=[1, 16]), '--gradaug-sizes 1.0 16: the checkpoint {} was trained with 1.0 0.875 0.75'),
    (dict(no_gradaug=True), '--no-gradaug: the checkpoint {} was trained with GradAug'),
])
def test_a_checkpoint_of_other_flags_is_refused(gradaug_checkpoint, image_folder, tmp_path, capsys, flags, wanted):
    flags = {**(dict() if 'no_gradaug' in flags else dict(gradaug=True)), **flags}
    argv = arguments(image_folder, tmp_path, resume=gradaug_checkpoint, **flags)
    assert wanted.format(gradaug_checkpoint) in error_line(capsys, argv)


def test_a_checkpoint_is_continued_by_the_same_settings_and_without_its_optimizer(
        gradaug_checkpoint, image_folder, tmp_path):
    flags = dict(gradaug=True, gradaug_divisor=8, opt='adamw', no_resume_opt=True, resume=gradaug_checkpoint, epochs=2)
    assert checkpoint_epoch(train(image_folder, tmp_path, **flags) / 'last.pth.tar') == 1


@pytest.fixture(scope='module')
def gradaug_checkpoint(image_folder, tmp_path_factory):
    return train(image_folder, tmp_path_factory.mktemp('checkpoint'), gradaug=True) / 'last.pth.tar'


@pytest.mark.parametrize(('batches', 'steps'), [(7, 3), (6, 3), (2, 4), (5, 1)])
def test_accumulation_weighs_all_batches_of_an_update_alike(batches, steps):
    groups, group = [], []
    for batch in range(batches):
        summed, complete = accumulation(batch, batches, steps)
        group.append(summed)
        if complete:
            groups.append(group)
            group = []
    assert not group
    rest = [batches % steps] if batches % steps else []
    assert [len(group) for group in groups] == [steps] * (batches // steps) + rest
    assert all(summed == len(group) for group in groups for summed in group)
