"""What is unusual in a run is said once before training, and in the dry run."""
import json
import logging

import pytest
import torch
from safetensors.torch import save_file
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.utils import ModelEmaV3
from torch import nn
from train_helpers import arguments, train

from gradaug_timm import EvaluationSettings, TrainSettings
from gradaug_timm import train as train_from_python
from gradaug_timm.flags import changed, without_effect
from gradaug_timm.predict.arguments import PredictSettings
from gradaug_timm.training.arguments import build_parser, parse_arguments, resolve
from gradaug_timm.training.checkpoints.names import names_in
from gradaug_timm.training.main import main
from gradaug_timm.training.unusual import average_warnings, class_warnings, fitting_decay, schedule_warnings


def of_schedule(end: int, **settings) -> list[str]:
    return list(schedule_warnings(resolve(TrainSettings(lr=0.1, epochs=end, **settings)), end))


def rates(epochs: int, **settings) -> list[float]:
    """The learning rate of each epoch by timm's own schedule."""
    args = resolve(TrainSettings(lr=0.1, epochs=epochs, **settings))
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    scheduler, end = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=1)
    found = []
    for epoch in range(end):
        found.append(optimizer.param_groups[0]['lr'])
        if scheduler is not None:
            scheduler.step(epoch + 1, 1.)
    return found


@pytest.mark.parametrize(('epochs', 'settings', 'wanted'), [
    (1, dict(), 'within the warm-up of --warmup-epochs 5: the learning rate begins at --warmup-lr 1e-05, rises to'),
    (5, dict(), 'never reaches 0.1'),
    (9, dict(warmup_epochs=20), 'Set --warmup-epochs 0'),
    (30, dict(sched='step'), 'The learning rate never falls: --decay-epochs 90 is beyond 30 epochs'),
    (30, dict(sched='step', decay_epochs=40), '--decay-epochs 40 is beyond'),
    (30, dict(sched='multistep'), 'The learning rate never falls: --decay-milestones 90 180 270'),
    (30, dict(sched='multistep', decay_milestones=(20, 40)), 'Some steps are missed: --decay-milestones 40'),
    (8, dict(sched='plateau'), '--patience-epochs 10 is not over after 8 epochs'),
    (6, dict(cooldown_epochs=10), '10 of the 6 epochs are --cooldown-epochs'),
    (20, dict(cooldown_epochs=3, stop_epoch=10), '--cooldown-epochs 3 is not reached: --stop-epoch 10'),
    (20, dict(model='gradaug_resnet18', gradaug_size_epochs=30), '--gradaug-size-epochs 30 is beyond 20 epochs'),
    (20, dict(save_epochs=(10, 30)), '--save-epochs 30 is beyond 20 epochs'),
])
def test_a_part_of_the_schedule_beyond_the_end_is_named(epochs, settings, wanted):
    assert len([line for line in of_schedule(epochs, **settings) if wanted in line]) == 1


@pytest.mark.parametrize(('epochs', 'settings'), [
    (6, dict()), (1, dict(warmup_epochs=0)), (1, dict(sched='none')), (100, dict(sched='step')),
    (30, dict(sched='multistep', decay_milestones=(10, 20))), (20, dict(cooldown_epochs=3)),
    (20, dict(sched='cosine', decay_epochs=90, decay_milestones=(90,))),
])
def test_a_schedule_within_the_run_is_not_warned_of(epochs, settings):
    assert of_schedule(epochs, **settings) == []


@pytest.mark.parametrize(('epochs', 'settings'), [
    (1, dict()), (3, dict()), (5, dict()), (3, dict(warmup_epochs=20)), (2, dict(sched='step')),
    (4, dict(warmup_lr=0.08))])
def test_the_learning_rate_in_the_warning_is_that_of_timms_schedule(epochs, settings):
    line = next(line for line in of_schedule(epochs, **settings) if 'rises to' in line)
    assert float(line.split('rises to ')[1].split(' ')[0]) == pytest.approx(max(rates(epochs, **settings)), rel=0.01)
    assert max(rates(epochs, **settings)) < 0.1


def remaining(decay: float, updates: int) -> float:
    """Share of the first weights in timm's moving average, whose first update copies the weights."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    average = ModelEmaV3(network, decay=decay)
    average.update(network, step=1)
    nn.init.zeros_(network.weight)
    for update in range(2, updates + 1):
        average.update(network, step=update)
    return average.module.weight.item()


@pytest.mark.parametrize('updates', [5, 12, 100, 1248])
def test_an_average_that_keeps_the_first_weights_is_warned_of_with_a_decay_that_fits(updates):
    args = TrainSettings(model_ema=True)
    line, = average_warnings(args, updates)
    assert f'{remaining(0.9998, updates):.0%} of the moving average' in line
    assert f'--model-ema-warmup, or --model-ema-decay {fitting_decay(updates):g}' in line
    assert remaining(fitting_decay(updates), updates) <= 0.0101
    assert list(average_warnings(TrainSettings(model_ema=True, model_ema_decay=fitting_decay(updates)), updates)) == []


def test_an_average_that_fits_or_warms_up_is_not_warned_of():
    assert list(average_warnings(TrainSettings(model_ema=True, model_ema_warmup=True), 10)) == []
    assert list(average_warnings(TrainSettings(model_ema=True), 20000)) == []
    assert list(average_warnings(TrainSettings(), 10)) == []
    assert fitting_decay(1) == 0 and '--model-ema-decay 0.' not in next(
        average_warnings(TrainSettings(model_ema=True), 1)).partition('Add')[2]


UNUSUAL = dict(epochs=2, warmup_epochs=5, clip_mode='agc', layer_decay=0.5, sched='cosine', model_ema=True,
               grad_accum_steps=2, recount=2, val_split='')


def test_a_run_says_what_is_unusual_before_it_trains(image_folder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        train(image_folder, tmp_path, **UNUSUAL, worker_seeding='part')
    text = [line for line in caplog.messages if line.startswith(('Without', 'The run ends', 'After '))]
    assert len(text) == 3
    assert text[0] == ('Without effect: --recount 2 (without --reprob), --clip-mode agc (without --clip-grad), '
                       '--worker-seeding part (as the draws of data workers follow from --seed).')
    assert 'within the warm-up' in text[1]
    assert text[2].startswith('After 4 updates')  # three batches of an epoch are two updates


def test_the_dry_run_reports_it_too(image_folder, tmp_path, capsys):
    main([*arguments(image_folder, tmp_path, **{**UNUSUAL, 'sched': 'none'}), '--dry-run'])
    out = capsys.readouterr().out
    assert 'After 4 updates' in out and '--clip-mode agc' in out
    assert '--layer-decay 0.5' in out and 'with --sched none, as timm' in out


def test_a_run_from_python_says_it_too(image_folder, tmp_path, caplog):
    settings = TrainSettings(
        data_dir=image_folder, num_classes=2, device='cpu', workers=0, batch_size=8, img_size=16, lr=0.1,
        model='resnet20_cifar', model_kwargs={'depth': 8}, epochs=1, warmup_epochs=0, output=tmp_path,
        model_ema_decay=0.9, layer_decay=0.7, sched='none')
    with caplog.at_level(logging.WARNING):
        train_from_python(settings)
    line, = [line for line in caplog.messages if line.startswith('Without effect')]
    assert '--model-ema-decay 0.9 (without --model-ema)' in line and '--layer-decay 0.7 (with --sched none' in line


@pytest.mark.parametrize(('given', 'dataset', 'holds'), [
    (dict(epoch_repeats=2., train_num_samples=9), '', True), (dict(epoch_repeats=2.), 'wds/x', False),
    (dict(dataset_trust_remote_code=True), 'torch/cifar10', True),
    (dict(dataset_trust_remote_code=True), 'hfds/x', False),
    (dict(val_interval=2, eval_metric='top5'), None, True),
])
def test_flags_for_other_data_have_no_effect(given, dataset, holds):
    settings = TrainSettings(dataset=dataset or '', val_split='' if dataset is None else 'validation', **given)
    line = without_effect(settings, given)
    assert all(f'--{name.replace("_", "-")} ' in line for name in given) if holds else line == ''


@pytest.mark.parametrize('settings', [
    TrainSettings(bce_pos_weight=2., loss_pos_weight='3'),
    EvaluationSettings(recalibration_batches=3, train_split='part'),
    PredictSettings(data_dir='x', sheet_images=4, results_separate_col=True, index_col='number'),
    PredictSettings(data_dir='x', topk=0, include_index=True, label_col='name'),
    PredictSettings(data_dir='x', exclude_output=True, output_type='logit', output_col='value'),
], ids=lambda settings: type(settings).__name__)
def test_a_flag_that_needs_another_is_named(settings):
    given = {*changed(settings)} - {'data_dir', 'topk', 'exclude_output', 'loss_pos_weight'}
    line = without_effect(settings, changed(settings))
    assert {part.split(' ')[0] for part in line.split('--')[1:]} >= {name.replace('_', '-') for name in given}
    assert '--exclude-output (' not in line and '--topk 0 (' not in line and '--loss-pos-weight 3 (' not in line


@pytest.mark.parametrize(('text', 'flags'), [
    ('decay_epochs: 30\ndecay_milestones: [30, 60]\nclip_mode: value\n', dict()),
    ('gradaug_subnets: 2\nclip_mode: value\n', dict(no_gradaug=True)),
])
def test_former_defaults_in_a_file_and_what_is_turned_off_are_no_surprise(
        text, flags, image_folder, tmp_path, caplog):
    (tmp_path / 'args.yaml').write_text(text)
    with caplog.at_level(logging.WARNING):
        train(image_folder, tmp_path / 'out', config=tmp_path / 'args.yaml', **flags)
    line, = [line for line in caplog.messages if line.startswith('Without effect')]
    assert line == 'Without effect: --clip-mode value (without --clip-grad).'


def test_a_file_of_pretrained_weights_is_loaded_without_another_flag(image_folder, tmp_path):
    args = parse_arguments(build_parser(), ['--model', 'resnet18', '--pretrained-path', __file__])[0]
    assert args.pretrained and args.pretrained_path == __file__
    folder = train(image_folder, tmp_path, lr=1e-9)
    first = torch.load(folder / 'last.pth.tar', weights_only=False)['state_dict']['conv1.weight']
    again = train(image_folder, tmp_path, lr=1e-9, seed=7, experiment='again', pretrained_path=folder / 'last.pth.tar')
    assert torch.allclose(first, torch.load(again / 'last.pth.tar', weights_only=False)['state_dict']['conv1.weight'],
                          atol=1e-5)


@pytest.mark.parametrize('kind', ['initial', 'teacher', 'exported'])
def test_weights_whose_outputs_are_other_classes_are_warned_of(kind, tmp_path):
    path, weights = tmp_path / 'model.safetensors', {'x': torch.zeros(1)}
    if kind == 'exported':
        save_file(weights, path)
        (tmp_path / 'config.json').write_text(json.dumps({'label_names': ['cat', 'dog', 'emu']}))
    else:
        save_file(weights, path, {'class_names': json.dumps(['cat', 'dog', 'emu'])})
    given = dict(kd_model_name='resnet18', kd_checkpoint=str(path)) if kind == 'teacher' else dict(
        initial_checkpoint=str(path))

    def said(*names, **more):
        return list(class_warnings(TrainSettings(**given, **more), None, names))

    assert said('cat', 'dog', 'emu') == [] and said('cat', 'dog') == []  # another number ends the run elsewhere
    line, = said('cat', 'emu', 'dog')
    assert str(path) in line and line.endswith(
        'has the classes in another order than the data: its output 1 is dog, label 1 is emu.')
    line, = said('cat', 'dog', 'fox')
    assert line.endswith('has other classes than the data: its output 2 is emu, label 2 is fox.')
    assert said('cat', 'dog', 'fox', kd_distill_type='feature') == ([] if kind == 'teacher' else [line])
    assert list(class_warnings(TrainSettings(**given), None, None)) == []


def test_a_checkpoint_tells_its_classes_and_other_files_none(tmp_path):
    torch.save({'state_dict': {}, 'class_names': ('a', 'b')}, tmp_path / 'last.pth.tar')
    torch.save({'x': torch.zeros(1)}, tmp_path / 'bare.pth')
    (tmp_path / 'broken.safetensors').write_text('x')
    assert names_in(str(tmp_path / 'last.pth.tar')) == ('a', 'b')
    assert [names_in(str(tmp_path / name)) for name in ('bare.pth', 'broken.safetensors', 'none.pth')] == [None] * 3
