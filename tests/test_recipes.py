"""Recipes of older versions of timm: each key is kept, is today's flag, or is rejected with the reason."""
import logging

import pytest
import yaml
from train_helpers import arguments, error_line, read_summary, train

from gradaug_timm import TrainSettings
from gradaug_timm.hints import nearest
from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.main import main


def parse(*argv):
    return parse_arguments(build_parser(), ['--model', 'resnet18', *map(str, argv)])[0]


@pytest.fixture
def config(tmp_path):
    def write(text: str):
        path = tmp_path / 'args.yaml'
        path.write_text(text)
        return path
    return write


OFF = '''
native_amp: false
apex_amp: false
amp_impl: native
bn_tf: false
jsd: false
aot_autograd: false
num_gpu: 1
validation_batch_size_multiplier: 1
torchscript: false
fuser: ''
prefetcher: true
distributed: true
world_size: 8
'''


def test_keys_of_older_versions_that_ask_for_nothing_are_accepted_with_one_line(config):
    path = config(OFF + 'lr: 0.3\n')
    args = parse('-c', path)
    assert args.values() == parse('--lr', '0.3').values()
    line, = args.notes
    assert line.startswith(f'{path} has keys of an older timm: native_amp: false (off, as today); apex_amp: false')


@pytest.mark.parametrize(('text', 'wanted'), [
    ('native_amp: true\namp: false', dict(amp=True)),
    ('amp: false\nnative_amp: true', dict(amp=True)),
    ('apex_amp: true', dict(amp=True)),
    ('amp: true\namp_impl: apex', dict(amp=True)),
    ('jsd: true\naug_splits: 3', dict(jsd_loss=True, loss='jsd')),
    ('validation_batch_size_multiplier: 2\nbatch_size: 32', dict(validation_batch_size=64)),
    ('bn_tf: true\nmodel: efficientnet_b0', dict(bn_momentum=0.01, bn_eps=1e-3)),
    ('bn_tf: true\nbn_momentum: 0.2\nmodel: mobilenetv3_large_100', dict(bn_momentum=0.2, bn_eps=1e-3)),
    ('bn_tf: true\nmodel: resnet50', dict(bn_momentum=None, bn_eps=None)),
    ('opt: nvnovograd', dict(opt='novograd')),
    ('opt: lookahead_fusedmomentum', dict(opt='lookahead_momentum')),
    ('bn_tf: true\nmodel: tf_efficientnet_b0_ns', dict(bn_momentum=0.01, bn_eps=1e-3)),
    ('bn_tf: true\nmodel: gradaug_mixnet_s.ft_in1k', dict(bn_momentum=0.01, bn_eps=1e-3)),
    ('eval_metric: prec1', dict(eval_metric='top1')),
    ('prefetcher: false', dict(no_prefetcher=True)),
])
def test_what_has_another_name_today_is_translated(config, text, wanted):
    args = parse_arguments(build_parser(), ['-c', str(config(text))])[0]
    assert {name: getattr(args, name) for name in wanted} == wanted
    assert len(args.notes) == 1
    assert set(wanted) <= {*args.origins, *(name for name, value in wanted.items() if value is None), 'loss',
                           'eval_metric'}


@pytest.mark.parametrize(('argv', 'wanted'), [
    (['--native-amp'], dict(amp=True)),
    (['--apex-amp'], dict(amp=True)),
    (['--amp', '--amp-impl', 'native'], dict(amp=True)),
    (['--jsd', '--aug-splits', '3'], dict(loss='jsd')),
    (['--bn-tf', '--model', 'efficientnet_b0'], dict(bn_momentum=0.01, bn_eps=1e-3)),
    (['--validation-batch-size-multiplier', '2', '-b', '16'], dict(validation_batch_size=32)),
    (['-d', 'torch/cifar10'], dict(dataset='torch/cifar10')),
    (['--opt', 'nvnovograd'], dict(opt='novograd')),
    (['--eval-metric', 'prec1'], dict(eval_metric='top1')),
    (['--local-rank', '1'], dict(local_rank=1)),
])
def test_flags_of_older_versions_are_translated_too(argv, wanted):
    args = parse(*argv)
    assert {name: getattr(args, name) for name in wanted} == wanted


@pytest.mark.parametrize(('text', 'wanted'), [
    ('aot_autograd: true', 'aot_autograd: true is not supported: timm removed it in 0.8.20; use torchcompile'),
    ('num_gpu: 4', 'num_gpu: 4 is not supported: start the processes with torchrun --nproc-per-node 4'),
    ('amp_impl: other', 'amp_impl: other is not supported'),
    ('validation_batch_size_multiplier: 4', 'use validation_batch_size, the number of images'),
    ('torchscript: true', 'torchscript is not supported: TorchScript is deprecated'),
    ('fuser: nvfuser', 'fuser is not supported'),
])
def test_what_asks_for_something_else_is_rejected_with_todays_flag(capsys, config, text, wanted):
    assert wanted in error_line(capsys, ['-c', str(config(text))])


def test_flags_that_ask_for_something_else_are_rejected(capsys):
    assert 'use torchcompile' in error_line(capsys, ['--aot-autograd'])
    assert 'torchrun --nproc-per-node 4' in error_line(capsys, ['--num-gpu', '4'])


def test_the_default_device_of_timm_is_the_device_that_exists(config, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert parse('-c', config('device: cuda')).device is None
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    assert parse('-c', config('device: cuda')).device == 'cuda'


def test_the_command_line_overrides_the_folder_of_the_file(config, image_folder):
    args = parse(image_folder, '-c', config('data_dir: /somewhere/else'))
    assert args.data_dir == str(image_folder)
    assert parse('-c', config('data_dir: /somewhere/else')).data_dir == '/somewhere/else'


def test_an_older_args_yaml_trains(config, image_folder, tmp_path, caplog):
    path = config(OFF + 'data_dir: /data/imagenet\nsmoothing: 0.1\ncolor_jitter: null\naa: null\n')
    with caplog.at_level(logging.INFO):
        folder = train(image_folder, tmp_path / 'output', config=path)
    assert len([line for line in caplog.messages if 'has keys of an older timm' in line]) == 1
    assert len(read_summary(folder)) == 1
    again = yaml.safe_load((folder / 'args.yaml').read_text())
    assert 'native_amp' not in again and again['data_dir'] == str(image_folder)


def test_the_dry_run_reports_the_same_lines(config, image_folder, tmp_path, capsys):
    path = config('native_amp: false\namp_impl: native\n')
    main([*arguments(image_folder, tmp_path / 'output'), '-c', str(path), '--dry-run'])
    out = capsys.readouterr().out
    assert 'From older versions of timm' in out and 'amp_impl: native (torch\'s mixed precision' in out


NULLS = dict(
    color_jitter=0., aa=None, drop_block=None, mean=None, val_split='', train_interpolation='', sched='none',
    scale=(0.08, 1.), mixup=0., resume='', pretrained=False, model_kwargs={}, wandb_tags=(), drop=None, dist_bn='',
    clip_grad=None, smoothing=0.1, cutmix_minmax=None, class_map='', mixup_off_epoch=0)


def test_null_is_what_it_is_in_timm(config):
    path = config(''.join(f'{name}: null\n' for name in NULLS))
    args = parse('-c', path)
    assert {name: getattr(args, name) for name in NULLS} == NULLS
    from_python = TrainSettings(**dict.fromkeys(set(NULLS) - {'smoothing'}))
    assert {name: getattr(from_python, name) for name in set(NULLS) - {'smoothing'}} == {
        name: value for name, value in NULLS.items() if name != 'smoothing'}


@pytest.mark.parametrize(('argv', 'wanted'), [
    (['--color-jitter', 'none'], dict(color_jitter=0.)),
    (['--sched', 'None'], dict(sched='none')),
    (['--aa', 'null'], dict(aa=None)),
    (['--mean', 'none'], dict(mean=None)),
    (['--drop', 'None'], dict(drop=None)),
    (['--experiment', 'none'], dict(experiment='none')),
    (['--mean', 'none', '--scale', 'none'], dict(mean=None, scale=(0.08, 1.))),
])
def test_none_on_the_command_line_is_null(argv, wanted):
    args = parse(*argv)
    assert {name: getattr(args, name) for name in wanted} == wanted


@pytest.mark.parametrize('name', ['epochs', 'opt', 'momentum', 'lr_base', 'hflip', 'workers'])
def test_null_that_would_mean_nothing_is_rejected(capsys, config, name):
    assert f'{name} must be one value, not null' in error_line(capsys, ['-c', str(config(f'{name}: null'))])
    with pytest.raises(ValueError, match=f'{name} must be one value, not null'):
        TrainSettings(**{name: None})


@pytest.mark.parametrize(('name', 'known'), [
    ('--jsd', ['--std', '--seed']), ('mesa', ['mean', 'scale']), ('data_len', ['dataset', 'data_dir']),
    ('--version', ['--ratio', '--verbose']), ('timm/resnet18.a1_in1k', ['resnet101_clip', 'resnet18']),
    ('amp_impl', ['warmup_lr', 'amp']), ('7', ['3', '8']), ('x', []), ('--kd', ['-d', '--lr']),
    ('--weights', ['--gradaug-weight']), ('--resize', ['--resume', '--gradaug-sizes']), ('--cutout', ['--output']),
    ('--max-lr', ['--min-lr', '--lr']),
])
def test_no_hint_is_better_than_a_wrong_one(name, known):
    assert nearest(name, known) is None


@pytest.mark.parametrize(('argv', 'wanted'), [
    (['--learning-rate', '1'], 'unknown flag --learning-rate, did you mean --lr?'),
    (['--label-smoothing', '.1'], 'did you mean --smoothing?'),
    (['--subnets', '1'], 'did you mean --gradaug-subnets?'),
    (['--wandb'], 'did you mean --log-wandb?'),
    (['--num-gpus', '4'], 'unknown flag --num-gpus, see train.py --help'),
    (['--eval'], 'unknown flag --eval, see train.py --help'),
    (['--no-amp'], 'unknown flag --no-amp: --amp is off unless it is given'),
    (['--amp=true'], "argument --amp: takes no value, not 'true'"),
    (['\u2013lr=0.1'], '\u2013lr=0.1 begins with \u2013, which is not the dash of a flag'),
    (['there', '--data-dir', 'here'], 'the folder of the data is given twice: there and --data-dir here'),
    (['--img-size', '8', '--input-size', '3', '9', '9'], '--img-size 8 and --input-size 3 9 9 exclude each other'),
    (['--jsd-loss'], '--loss jsd compares augmentations of an image; add --aug-splits 3'),
    (['--aug-splits', '2', '--no-aug'], '--aug-splits 2 needs augmentation; leave out --no-aug'),
    (['--class-stats', 'nowhere'], 'error: --class-stats nowhere does not exist'),
    (['--mesa', '1'], 'unknown flag --mesa, see train.py --help'),
    (['-e'], 'unknown flag -e, see train.py --help'),
    (['--warmup-ep', '3'], 'unknown flag --warmup-ep, did you mean --warmup-epochs?'),
    (['--mix', '1'], 'unknown flag --mix, did you mean --mixup?'),
    (['--gradaug-s', '1'], 'unknown flag --gradaug-s, see train.py --help'),
    (['--model', 'timm/resnet18.a1_in1k'], 'did you mean resnet18.a1_in1k or hf-hub:timm/resnet18.a1_in1k?'),
    (['--model', 'someone/else'], 'did you mean hf-hub:someone/else?'),
])
def test_a_hint_fits(capsys, argv, wanted):
    assert wanted in error_line(capsys, argv)


@pytest.mark.parametrize(('text', 'wanted'), [
    ('scale: !!python/tuple [0.2, 1.0]\ninput_size: !!python/tuple\n- 1\n- 8\n- 8', dict(
        scale=(0.2, 1.0), input_size=(1, 8, 8))),
    ('<<: {lr: 0.1, epochs: 3}\nepochs: 4', dict(lr=0.1, epochs=4)),
    ('model_kwargs: &both {a: 1, b: 1}\nopt_kwargs: {<<: *both, b: 2}', dict(opt_kwargs=dict(a=1, b=2))),
    ('torchcompile: true\nexperiment: 2026-01-02', dict(torchcompile='inductor', experiment='2026-01-02')),
    ('torchcompile: off', dict(torchcompile=None)),
    ('mean: [none]', dict(mean=None)),
    ('lr: 5e-4\nwarmup_lr: "1e-6"\namp: yes', dict(lr=5e-4, warmup_lr=1e-6, amp=True)),
    ('\ufefflr: 0.1\r\nepochs: 3\r\n', dict(lr=0.1, epochs=3)),
])
def test_each_form_of_yaml_is_read(config, text, wanted):
    args = parse('-c', config(text))
    assert {name: getattr(args, name) for name in wanted} == wanted


@pytest.mark.parametrize(('text', 'wanted'), [
    ('lr: 0.1\n"lr": 0.2', "key 'lr' is given twice"),
    ('opt_kwargs: {a: 1, a: 2}', "key 'a' is given twice"),
    ('lr: 0.1\n---\nepochs: 3', 'expected a single document'),
    ('lr: !!python/name:os.system', 'could not determine a constructor'),
    ('--lr: 0.1', "unknown key '--lr', did you mean lr?"),
    ('eval_metric: [top1]', 'eval_metric must be one value, not list'),
    ('weight-decay: 0.1', "unknown key 'weight-decay', did you mean weight_decay?"),
])
def test_what_yaml_does_not_say_clearly_ends_in_one_line(capsys, config, text, wanted):
    path = config(text)
    error = error_line(capsys, ['-c', str(path)])
    assert wanted in error and str(path) in error


@pytest.mark.parametrize(('text', 'argv', 'wanted'), [
    ('bce_loss: true', ['--loss', 'ce'], dict(loss='ce', bce_loss=False)),
    ('loss: ce', ['--bce-loss'], dict(loss='bce')),
    ('jsd: true\naug_splits: 3', ['--bce-loss'], dict(loss='bce', jsd_loss=False)),
    ('drop_path: 0.2', ['--drop-connect', '0.1'], dict(drop_path=0.1)),
    ('bce_loss: true\nloss_pos_weight: 3', ['--bce-pos-weight', '2'], dict(loss_pos_weight='2.0')),
    ('recovery_interval: 9', ['--checkpoint-steps', '5'], dict(checkpoint_steps=5, recovery_interval=0)),
    ('bce_loss: true', [], dict(loss='bce')),
])
def test_the_command_line_overrides_the_other_spelling_of_a_file(config, text, argv, wanted):
    args = parse('-c', config(text), *argv)
    assert {name: getattr(args, name) for name in wanted} == wanted


def test_a_size_on_the_command_line_overrides_the_other_spelling_of_the_file(config):
    args = parse('-c', config('input_size: [1, 224, 224]'), '--img-size', '64')
    assert (args.input_size, args.img_size, args.in_chans) == (None, 64, 1)
    args = parse('-c', config('img_size: 224'), '--input-size', '3', '32', '32')
    assert (args.input_size, args.img_size) == ((3, 32, 32), None)
