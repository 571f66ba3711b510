"""What --dry-run prints, and that it leaves nothing behind."""
import re

import pytest
import torch
import yaml
from rows_expected import HPARAMS, ROWS
from timm.data import resolve_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torch import nn
from train_helpers import arguments, error_line, train

from gradaug_timm.detection.arguments import DetectionSettings
from gradaug_timm.elastic import make_elastic
from gradaug_timm.flags import declared, idle_settings
from gradaug_timm.task.cost import RelativeCost
from gradaug_timm.task.settings import GradAugSettings
from gradaug_timm.training.arguments import TrainSettings, build_parser, given_settings, parse_arguments
from gradaug_timm.training.arguments.optimization import SCHEDULES
from gradaug_timm.training.dry_run import trial
from gradaug_timm.training.dry_run.paper import deviations, recipe
from gradaug_timm.training.main import main


def lines_of(capsys, data, output, *more: str, **flags) -> list[str]:
    """What a dry run prints on a folder of small images."""
    capsys.readouterr()
    main([*arguments(data, output, **{'gradaug': True, 'sched_on_updates': True, **flags}), '--dry-run', *more])
    return capsys.readouterr().out.splitlines()


def section(lines: list[str], title: str) -> list[str]:
    if title not in lines:
        return []
    rest = lines[lines.index(title) + 1:]
    return [re.sub(' {2,}', ' | ', line.strip()) for line in rest[:[*rest, ''].index('')]]


def value(lines: list[str], name: str) -> str:
    return next(line.split(' | ')[1] for line in [re.sub(' {2,}', ' | ', line.strip()) for line in lines]
                if line.startswith(f'{name} | '))


SETTINGS = 'Settings other than the defaults, and where they were set'


def test_each_setting_is_told_with_the_file_or_flag_that_won(capsys, image_folder, tmp_path):
    (tmp_path / 'base.yaml').write_text('momentum: 0.8\nepochs: 7\nweight_decay: 0.1\nlog_interval: 50\n')
    (tmp_path / 'a.yaml').write_text('base: base.yaml\nepochs: 8\nworkers: 0\ndrop: 0.5\n')
    (tmp_path / 'b.yaml').write_text('weight_decay: 2.0e-05\ndrop: 0.1\n')  # the former is the default
    capsys.readouterr()
    main(['-c', *(str(tmp_path / name) for name in ('a.yaml', 'b.yaml')), '--data-dir', str(image_folder),
          '--model', 'gradaug_resnet20_cifar', '--model-kwargs', 'depth=8', '--num-classes', '2', '-b', '8',
          '--img-size', '16', '--device', 'cpu', '--lr-base', '0.2', '--warmup-epochs', '5', '--drop', '0.2',
          '--dry-run'])
    lines = capsys.readouterr().out.splitlines()
    assert set(section(lines, SETTINGS)) == {
        f'momentum | 0.8 | {tmp_path}/base.yaml', f'epochs | 8 | {tmp_path}/a.yaml', f'workers | 0 | {tmp_path}/a.yaml',
        'drop | 0.2 | command line', f'data_dir | {image_folder} | command line', 'num_classes | 2 | command line',
        'model | gradaug_resnet20_cifar | command line', 'model_kwargs | depth=8 | command line',
        'batch_size | 8 | command line', 'img_size | 16 | command line', 'device | cpu | command line',
        'lr_base | 0.2 | command line', 'lr | 0.00625 | --lr-base', 'gradaug_min_width | 0.8 | preset',
        'gradaug_sizes | 1 0.875 0.75 | preset', 'gradaug_subnets | 2 | preset',
        'gradaug_batch_fraction | 0.5 | preset'}


def test_settings_that_come_with_the_package_are_told_by_their_file(tmp_path, monkeypatch, project_root):
    monkeypatch.chdir(tmp_path)
    argv = ['-c', 'cifar100/wide_resnet28_10_gradaug', '--data-dir', '.', '--dry-run']
    args, _ = parse_arguments(build_parser(), argv)
    folder = project_root / 'hparams' / 'cifar100'
    assert args.origins['gradaug_divisor'] == str(folder / 'wide_resnet28_10_gradaug.yaml')
    assert args.origins['weight_decay'] == str(folder / '_wide_resnet28_10.yaml')
    assert args.origins['data_dir'] == 'command line'


def test_nothing_is_written(capsys, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines_of(capsys, image_folder, tmp_path / 'output', model_ema=True, checkpoint_steps=1, save_images=True)
    lines_of(capsys, image_folder, 'output', experiment='run', grad_accum_steps=2, model='resnet20_cifar')
    assert list(tmp_path.iterdir()) == []


def test_cost_and_size_are_those_of_the_network_counted_apart(capsys, image_folder, tmp_path):
    lines = lines_of(capsys, image_folder, tmp_path, gradaug_divisor=1)
    run = run_of(image_folder, tmp_path, gradaug_divisor=1)
    network = run.task.trainable_module
    assert value(lines, 'parameters') == f'{sum(p.numel() for p in network.parameters()):,}'
    make_elastic(network)
    expected = RelativeCost(network, (3, 16, 16), batch=8)(GradAugSettings.preset(16, divisor=1))
    assert f'{expected:.2f} times plain training' in value(lines, 'expected step')
    assert lines_of(capsys, image_folder, tmp_path, gradaug=False) and '1.00 times plain' in value(
        lines_of(capsys, image_folder, tmp_path, gradaug=False), 'expected step')


def test_what_is_unusual_is_told_with_the_papers_value_and_the_origin(capsys, image_folder, tmp_path):
    lines = lines_of(capsys, image_folder, tmp_path, smoothing=0.1, model='gradaug_resnet20_cifar', warmup_lr=0.1)
    assert section(lines, 'Without effect') == ['--warmup-lr 0.1 | without --warmup-epochs | set: command line']
    assert '--smoothing 0.1 | paper: 0' in section(lines, 'Different from the paper')
    plain = lines_of(capsys, image_folder, tmp_path, gradaug=False)
    assert section(plain, 'Different from the paper') == []


def run_of(data, output, **flags):
    from gradaug_timm.training.prepare import prepare
    from gradaug_timm.training.processes import start_process
    args, text = parse_arguments(
        build_parser(), [*arguments(data, output, gradaug=True, **flags), '--dry-run'])
    return prepare(args, text, start_process('cpu'))


@pytest.mark.parametrize(('flags', 'expected'), [
    # epochs of 3 batches; those with sub-networks take 5 seconds here, plain ones 2
    (dict(epochs=4), 4 * 3 * 5),
    (dict(epochs=4, gradaug_interval=3), 4 * (5 + 2 + 2)),
    (dict(epochs=4, gradaug_off_epoch=1), 3 * 5 + 3 * 3 * 2),
    (dict(epochs=4, gradaug_subnets=0), 4 * 3 * 2),
    (dict(epochs=4, grad_accum_steps=3), 4 * 3 * 5),
    (dict(epochs=4, grad_accum_steps=3, gradaug_interval=2), 4 * 3 * (5 + 2) / 2),
    (dict(epochs=4, start_epoch=3), 3 * 5),
])
def test_the_time_to_finish_follows_from_steps_with_and_without_sub_networks(
        image_folder, tmp_path, monkeypatch, flags, expected):
    run = run_of(image_folder, tmp_path, **flags)
    clock, trained = [0.], []

    def pretend(run, *args, **kwargs):
        trained.append([])
        for images, _ in run.loaders.train:
            drawn = run.task._next_draws()
            trained[-1].append(len(images))
            clock[0] += 1000 if len(trained) == 1 else 5 if drawn else 2  # the first one isn't timed

    monkeypatch.setattr(trial, 'train_epoch', pretend)
    monkeypatch.setattr(trial.time, 'perf_counter', lambda: clock[0])
    measured = trial.measure(run)
    assert trained == 4 * [flags.get('grad_accum_steps', 1) * [8]]
    assert trial.seconds_left(run, measured) == pytest.approx(expected)
    assert measured.images == 8 * flags.get('grad_accum_steps', 1)


def test_steps_are_real_ones_on_the_first_batches(image_folder, tmp_path, monkeypatch):
    seen = []
    run = run_of(image_folder, tmp_path, lr=0.1)
    before = [parameter.clone() for parameter in run.task.trainable_module.parameters()]
    expected = next(iter(run.loaders.train))[0].clone()
    forward = run.task.forward
    monkeypatch.setattr(run.task, 'forward', lambda images, target: seen.append(images.clone()) or forward(
        images, target))
    trial.measure(run)
    after = run.task.trainable_module.parameters()
    assert torch.equal(seen[0], expected) and not torch.equal(seen[1], expected) and len(seen) == 4
    assert all(not torch.equal(old, new) for old, new in zip(before, after))


def test_a_dry_run_of_a_resumed_run_tells_where_it_goes_on_and_changes_no_file(capsys, image_folder, tmp_path):
    folder = train(image_folder, tmp_path, gradaug=True, sched_on_updates=True, epochs=3, stop_epoch=2)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    lines = lines_of(capsys, image_folder, tmp_path, experiment='run', resume='auto', epochs=3)
    assert value(lines, 'starts at') == f'epoch 2, batch 0 of {folder}/last.pth.tar'
    complete = lines_of(capsys, image_folder, tmp_path, experiment='run', resume='auto', epochs=3, stop_epoch=2)
    assert not any('time to finish' in line for line in complete)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_errors_are_those_of_a_run(capsys, image_folder, tmp_path):
    train(image_folder, tmp_path)
    refused = error_line(capsys, [*arguments(image_folder, tmp_path, experiment='run'), '--dry-run'])
    assert 'already exists with an earlier run' in refused
    assert str(tmp_path / 'none') in error_line(capsys, [*arguments(tmp_path / 'none', tmp_path), '--dry-run'])
    (tmp_path / 'a.yaml').write_text('dry_run: true')
    assert "unknown key 'dry_run'" in error_line(capsys, ['-c', str(tmp_path / 'a.yaml')])


def test_a_step_that_does_not_fit_ends_in_one_line(capsys, image_folder, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.')
    monkeypatch.setattr(trial, 'train_epoch', full)
    with pytest.raises(SystemExit) as ended:
        lines_of(capsys, image_folder, tmp_path)
    assert ended.value.code == 1
    assert 'train.py: error: a step does not fit into the memory of cpu' in capsys.readouterr().err


def test_args_of_a_real_run_know_nothing_of_dry_runs(image_folder, tmp_path):
    folder = train(image_folder, tmp_path)
    assert 'dry_run' not in yaml.safe_load((folder / 'args.yaml').read_text())
    assert 'dry_run' not in torch.load(folder / 'last.pth.tar', weights_only=False)['args']


def test_detection_has_dry_runs_too(capsys, tmp_path):
    pytest.importorskip('faster_coco_eval', reason='needs the extra detection')
    from coco_helpers import make_coco
    from test_detection_runs import SMALL

    from gradaug_timm.detection import train as detection
    for seed, split in enumerate(('train2017', 'val2017')):
        make_coco(tmp_path / 'coco', split=split, seed=seed)
    detection.main([*SMALL, '--data-dir', str(tmp_path / 'coco'), '--output', str(tmp_path / 'o'), '--dry-run'])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f'Data check: {tmp_path / "coco"}' and value(lines, 'colour 7') == '4'
    assert lines.count('0 errors, 2 warnings.') == 1
    assert value(lines, 'ends after') == 'epoch 299, updates per epoch: 2'
    assert section(lines, 'Without effect') == ['--gradaug-subnets 1 | without --gradaug | set: command line']
    assert not section(lines, 'Different from the paper') and not (tmp_path / 'o').exists()
    (tmp_path / 'coco' / 'val2017' / '11.png').unlink()
    with pytest.raises(SystemExit) as ended:
        detection.main([*SMALL, '--data-dir', str(tmp_path / 'coco'), '--output', str(tmp_path / 'o'), '--dry-run'])
    shown = capsys.readouterr()
    assert ended.value.code == 2 and '1 error, ' in shown.out and 'the first is 11.png' in shown.err.splitlines()[-1]


@pytest.mark.slow
def test_of_two_processes_one_prints(project_root, image_folder, tmp_path):
    from test_train_distributed import torchrun
    log = torchrun(project_root, [*arguments(image_folder, tmp_path / 'o', gradaug=True), '--dry-run'])
    assert log.count('Dry run: nothing is written.') == 1 and 'processes: 2' in log
    assert not (tmp_path / 'o').exists()


# What has no effect


def values_of(*argv: str, processes: int = 1) -> tuple[dict, list[str]]:
    """All settings as rules get them, and the names of those that were given; without a network."""
    args, _ = parse_arguments(build_parser(), ['--data-dir', 'DIR', *argv, '--dry-run'])
    config = resolve_data_config(vars(args), verbose=False)
    settings = vars(GradAugSettings.preset(
        max(config['input_size'][1:]), args.gradaug_preset, **given_settings(args)))
    return {
        **vars(args), **{f'gradaug_{name}': value for name, value in settings.items() if args.gradaug},
        'interpolation': config['interpolation'], 'crop_pct': config['crop_pct'], 'input_size': config['input_size'],
        'zero_init_last': args.model_kwargs.get('zero_init_last', False), 'loss': args.loss or 'ce', 'device': 'cpu',
        'processes': processes, 'batch': args.batch_size * processes * args.grad_accum_steps,
        'end_epoch': args.epochs, 'given': args.origins}, list(args.origins)


def inert(command: str, **kwargs) -> dict[str, str]:
    return dict(idle_settings(TrainSettings, *values_of(*command.split(), **kwargs)))


EFFECTS = [  # flags without effect, and what gives them one
    ('amp_dtype', '--amp-dtype bfloat16', '--amp'),
    ('clip_mode', '--clip-mode agc', '--clip-grad 1'),
    ('warmup_lr', '--warmup-epochs 0 --warmup-lr 0.1', '--warmup-epochs 1'),
    ('decay_milestones', '--decay-milestones 3 5', '--sched multistep'),
    ('decay_all_parameters', '--weight-decay 0 --decay-all-parameters', '--weight-decay 0.1'),
    ('mixup_off_epoch', '--mixup-off-epoch 3', '--mixup 0.2'),
    ('mixup_off_epoch', '--mixup 0.2 --epochs 3 --mixup-off-epoch 3', '--epochs 4'),
    ('mixup_switch_prob', '--mixup 0.2 --mixup-switch-prob 0.1', '--cutmix 1'),
    ('gradaug_min_width', '--no-gradaug --gradaug-min-width 0.7', '--gradaug'),
    ('gradaug_min_width', '--gradaug --gradaug-mode depth --gradaug-min-width 0.7', '--gradaug-mode both'),
    ('gradaug_min_survival', '--gradaug --gradaug-min-survival 0.5', '--gradaug-mode depth'),
    ('gradaug_interval', '--gradaug --gradaug-subnets 0 --gradaug-interval 2', '--gradaug-subnets 1'),
    ('gradaug_rotation', '--gradaug --gradaug-rotation 0 360', '--gradaug-rotation 0 10'),
    ('gradaug_off_epoch', '--gradaug --epochs 9 --gradaug-off-epoch 9', '--epochs 10'),
    ('gradaug_size_epochs', '--gradaug --gradaug-sizes 0.5 --gradaug-size-epochs 5', '--gradaug-sizes 0.5 1'),
    ('lr_base', '--lr 0.1 --lr-base 0.5', None),
    ('scale', '--scale 0.5 1 --reflect-pad 4', '--reflect-pad 0'),
    ('hflip', '--no-aug --hflip 0.1', None),
    ('color_jitter', '--aa rand-m9 --color-jitter 0.1', '--aa 3a'),
    ('momentum', '--opt adamw --momentum 0.8', '--opt sgd'),
    ('opt_betas', '--opt-betas 0.9 0.99', '--opt adamw'),
    ('poly_epsilon', '--poly-epsilon 1', '--loss poly'),
    ('lr_cycle_mul', '--lr-cycle-mul 2', '--lr-cycle-limit 2'),
    ('loss_weight_power', '--loss-weight-power 2', None),
    ('train_size_random_mix', '--train-img-sizes 32 --train-size-random-mix 0.3', '--train-size-schedule progressive'),
    ('model_ema_decay', '--model-ema-decay 0.9', '--model-ema'),
    ('validation_batch_size', '--validation-batch-size 9 --val-split=', '--val-split validation'),
    ('pin_mem', '--pin-mem', None),
]


@pytest.mark.parametrize(('name', 'without', 'remedy'), EFFECTS)
def test_a_flag_without_effect_is_told_and_only_then(name, without, remedy):
    assert name in inert(without)
    if remedy is not None:
        assert name not in inert(f'{without} {remedy}')


def test_flags_of_several_processes_are_without_effect_in_one():
    command = '--sync-bn --no-ddp-bb'
    assert set(inert(command)) == {'sync_bn', 'no_ddp_bb'} and not inert(command, processes=2)
    assert inert('--sync-bn --dist-bn broadcast', processes=2) == {'dist_bn': 'with --sync-bn'}


@pytest.mark.parametrize('settings', [TrainSettings, DetectionSettings])
def test_conditions_name_settings_that_there_are(settings):
    """Each reads settings by name; one that there isn't would be a KeyError."""
    preset = {f'gradaug_{name}': value for name, value in vars(GradAugSettings()).items()}
    values = {**settings().values(), **preset, 'end_epoch': 9, 'device': 'cpu', 'processes': 1, 'given': {}}
    conditions = [(name, each) for name, found in declared(settings).items() for each in found.idle]
    assert len(conditions) > 50
    for name, condition in conditions:
        condition.holds(values)
        reason = condition.reason(values) if callable(condition.reason) else condition.reason
        assert reason.split()[0] in ('without', 'with', 'in', 'on', 'from', 'as', 'unless', 'only'), name


ALTERNATIVES = dict(
    decay_milestones=[3, 6], decay_epochs=3, decay_rate=0.3, min_lr=0.05, cooldown_epochs=4, lr_cycle_limit=2,
    lr_k_decay=2., lr_stable_timescale=7., lr_noise=[0.3], warmup_epochs=4, warmup_lr=0.02,
    sched_on_updates=True, lr_decay_fn='cosine')


@pytest.mark.parametrize('sched', SCHEDULES)
@pytest.mark.parametrize('name', ALTERNATIVES)
def test_the_schedules_that_use_a_setting_are_those_whose_rates_change_with_it(sched, name):
    plain = dict(sched=sched, epochs=12, warmup_epochs=1, decay_milestones=[2, 4], decay_epochs=5)
    if name == 'sched_on_updates' and sched == 'plateau':
        pytest.skip('refused')
    given = {**plain, name: ALTERNATIVES[name]}
    values = {**TrainSettings().values(), **given, 'given': given}
    unused = name in dict(idle_settings(TrainSettings, values, [name]))
    assert (rates(**given) == rates(**plain)) == unused


def rates(**flags) -> tuple:
    """The learning rate at every update of a run of two updates an epoch whose metric gets no better."""
    args = TrainSettings(**flags, eval_metric='loss', patience_epochs=1)
    optimizer = create_optimizer_v2(nn.Linear(1, 1), opt='sgd', lr=0.1)
    scheduler, epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=2)
    found = []
    for update in range(2 * epochs):
        found.append(optimizer.param_groups[0]['lr'])
        if scheduler is not None:
            scheduler.step_update(update + 1)
            if update % 2:
                scheduler.step((update + 1) // 2, 1.)
    return tuple(found)


# What isn't the paper's


GRADAUG_ROWS = [row for row in ROWS if 'gradaug' in row]


@pytest.mark.parametrize('row', GRADAUG_ROWS)
def test_a_row_of_the_paper_deviates_in_nothing_and_its_grid_only_in_the_grid(row):
    values, _ = values_of('-c', str(HPARAMS / f'{row}.yaml'))
    expected = {'gradaug_width_steps': (5, 0), 'gradaug_divisor': (8, 1)} if row.endswith('_grid') else {}
    assert {name: (value, paper) for name, value, paper in deviations(values)} == expected


@pytest.mark.parametrize('row', ROWS)
def test_no_setting_of_a_row_is_without_effect(row):
    assert list(idle_settings(TrainSettings, *values_of('-c', str(HPARAMS / f'{row}.yaml')))) == []


WRN = ('-c', str(HPARAMS / 'cifar100/wide_resnet28_10_gradaug.yaml'))


@pytest.mark.parametrize(('command', 'expected'), [
    ('--smoothing 0.1', {'smoothing': (0.1, 0.)}),
    ('--warmup-epochs 5', {'warmup_epochs': (5, 0)}),
    ('--gradaug-subnets 2', {'gradaug_subnets': (2, 3)}),
    ('--gradaug-min-width 0.9', {'gradaug_min_width': (0.9, 0.8)}),
    ('--gradaug-sizes 32 24', {'gradaug_sizes': ((32, 24), (1., 0.875, 0.75))}),
    ('--gradaug-sizes 24 32 28', {}),  # pixels in another order
    ('--weight-decay 0.0001', {'weight_decay': (1e-4, 5e-4)}),
    ('--opt adamw --lr 0.001', {'opt': ('adamw', 'sgd'), 'lr': (0.001, 0.1)}),
    ('--sched step', {'sched': ('step', 'cosine')}),
    ('--model-kwargs zero_init_last=True', {'zero_init_last': (True, False)}),
    ('--batch-size 64', {'batch': (64, 128)}),
    ('--batch-size 64 --grad-accum-steps 2', {}),
    ('--gradaug-mode both', {'gradaug_mode': ('both', 'width')}),
    ('--gradaug-mode depth', {'gradaug_mode': ('depth', 'width')}),
    ('--interpolation bicubic', {'interpolation': ('bicubic', 'bilinear')}),
    ('--train-interpolation bicubic', {}),  # nothing is resized before a padded crop
    ('--reflect-pad 0 --train-interpolation bicubic',
     {'reflect_pad': (0, 4), 'train_interpolation': ('bicubic', 'bilinear')}),
    ('--model-kwargs depth=16 --lr 3', {}),  # another network, whose learning rate the paper doesn't give
])
def test_a_setting_that_is_not_the_papers_is_told_with_the_papers(command, expected):
    values, _ = values_of(*WRN, *command.split())
    assert {name: (value, paper) for name, value, paper in deviations(values)} == expected


def test_what_a_row_leaves_to_the_recipe_is_all_in_timms_defaults_that_break_it():
    """The defaults that the facts name: each is told when the row's line is taken away."""
    broken = '--gradaug --model resnet50 --num-classes 10 --input-size 3 224 224 --interpolation bicubic'.split()
    values, _ = values_of(*broken)
    values['zero_init_last'] = True  # timm's default for its ResNets
    found = {name for name, _, _ in deviations(values)}
    assert {'decay_all_parameters', 'smoothing', 'train_interpolation', 'warmup_epochs', 'sched_on_updates',
            'weight_decay', 'zero_init_last', 'interpolation', 'keep_last_batch'} <= found
    assert {name for name in recipe(values) if name not in values} == set()
