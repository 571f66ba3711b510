"""Weights, classes, teachers, optimizers and names that do not fit: one line that says what does."""
import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.optim import list_optimizers
from torch import nn
from train_helpers import arguments, error_line, train

from gradaug_timm import TrainSettings
from gradaug_timm.evaluation.arguments import parse as parse_validation
from gradaug_timm.mismatch import describe_mismatch
from gradaug_timm.training.arguments import build_parser, parse_arguments, resolve
from gradaug_timm.training.arguments.class_weights import read_stats, weights_text
from gradaug_timm.training.arguments.criteria import loss_settings
from gradaug_timm.training.building.optimizers import create_optimizer
from gradaug_timm.training.main import without_resume
from gradaug_timm.training.prepare import prepare
from gradaug_timm.training.processes import start_process


def saved(path, **kwargs) -> str:
    torch.save(timm.create_model('resnet20_cifar', **{'depth': 8, 'num_classes': 2, **kwargs}).state_dict(), path)
    return str(path)


@pytest.mark.parametrize(('kwargs', 'wanted'), [
    (dict(num_classes=7), 'it has 7 classes, the model 2'),
    (dict(in_chans=1), 'it has 1 input channels, the model 3'),
    (dict(in_chans=1, num_classes=7), 'it has 1 input channels and 7 classes, the model 3 and 2'),
])
def test_weights_of_other_classes_or_channels_name_the_flag_that_adapts_them(
        capsys, image_folder, tmp_path, kwargs, wanted):
    path = saved(tmp_path / 'a.pth', **kwargs)
    error = error_line(capsys, arguments(image_folder, tmp_path, initial_checkpoint=path))
    assert error == (f'train.py: error: --initial-checkpoint {path} does not fit --model resnet20_cifar: {wanted}; use '
                     f'--pretrained --pretrained-path {path}, which adapts classes and channels')
    train(image_folder, tmp_path / 'out', pretrained_path=path)  # the advice holds


def test_weights_of_another_model_are_named_as_such(capsys, image_folder, tmp_path):
    path = saved(tmp_path / 'a.pth', depth=14)
    error = error_line(capsys, arguments(image_folder, tmp_path, initial_checkpoint=path))
    assert 'it is of another model: it has ' in error and 'pretrained-path' not in error
    with pytest.raises(RuntimeError) as raised:
        nn.Linear(2, 3).load_state_dict({'weight': torch.ones(4, 5), 'bias': torch.ones(4)})
    assert describe_mismatch(raised.value) == (
        'weight has the shape 4x5 in it, and 3x2 in the model, and 1 more differ')


def test_a_model_without_pretrained_weights_names_the_flag(capsys, image_folder, tmp_path):
    error = error_line(capsys, arguments(image_folder, tmp_path, pretrained=True))
    assert 'Leave out --pretrained, or name a file with --pretrained-path.' in error


@pytest.mark.parametrize('depths', [(20, 8), (8, 20)])
def test_pretrained_weights_of_another_model_are_rejected_and_not_loaded_in_part(
        capsys, image_folder, tmp_path, depths):
    path = saved(tmp_path / 'a.pth', depth=depths[0], num_classes=7)
    error = error_line(capsys, arguments(
        image_folder, tmp_path, pretrained_path=path, model_kwargs=f'depth={depths[1]}'))
    assert f'--pretrained-path {path} does not fit --model resnet20_cifar: it is of another model: it ' in error


@pytest.mark.parametrize(('name', 'other'), [
    ('fusedlamb', 'lamb'), ('fusedsgd', 'sgd'), ('bnbadamw8bit', 'adamw'), ('lookahead_fusedadam', 'lookahead_adam')])
def test_an_optimizer_that_needs_more_names_one_that_does_not(capsys, image_folder, tmp_path, monkeypatch, name, other):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    error = error_line(capsys, arguments(image_folder, tmp_path, opt=name))
    assert f'--opt {name} cannot be built' in error and f'use --opt {other}, which makes the same updates' in error


@pytest.mark.slow
@pytest.mark.parametrize('name', list_optimizers())
def test_each_optimizer_of_timm_trains_or_ends_in_one_line(name):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))

    class Task:
        def get_trainable_module(self, ema=False):
            return network

    try:
        optimizer = create_optimizer(resolve(TrainSettings(opt=name, lr=0.01)), Task())
    except ValueError as error:
        assert name.startswith(('fused', 'bnb')) and f'--opt {name} cannot be built' in str(error)
        return
    loss = network(torch.randn(4, 3, 8, 8)).square().mean()
    loss.backward(create_graph=getattr(optimizer, 'is_second_order', False))
    optimizer.step()


def test_former_names_of_models_are_followed_with_the_prefix_and_at_other_sizes(image_folder, tmp_path):
    network = timm.create_model('gradaug_mobilenetv3_large_100_miil_in21k', num_classes=2)
    assert network.pretrained_cfg['tag'] == 'miil_in21k'
    args, text = parse_arguments(build_parser(), arguments(
        image_folder, tmp_path, model='vit_tiny_patch16_224_in21k', model_kwargs='depth=1', img_size=32))
    assert prepare(args, text, start_process('cpu')).facts['input_size'] == [3, 32, 32]


WEIGHTED = dict(loss='bce', epochs=1, warmup_epochs=0)


@pytest.mark.parametrize('argv', [
    ['--loss-class-weight', '3', '0.5'], ['--loss-class-weight', '3,0.5'],
    ['--loss-class-weight', 'dark=0.5', 'bright=3']])
def test_weights_of_classes_are_given_as_a_list_or_by_name(image_folder, tmp_path, argv):
    args, text = parse_arguments(build_parser(), [*arguments(image_folder, tmp_path, **WEIGHTED), *argv])
    task = prepare(args, text, start_process('cpu')).task
    assert task.criterion.weight.tolist() == [3., .5]


@pytest.mark.parametrize('text', ['[3, 0.5]', '{dark: 0.5, bright: 3}', '"3, 0.5"'])
def test_weights_of_classes_in_yaml_are_those_of_the_command_line(image_folder, tmp_path, text):
    (tmp_path / 'a.yaml').write_text(f'loss_class_weight: {text}\n')
    args, _ = parse_arguments(build_parser(), [
        *arguments(image_folder, tmp_path, **WEIGHTED), '-c', str(tmp_path / 'a.yaml')])
    assert loss_settings(args, ('bright', 'dark'))['class_weight'].tolist() == [3., .5]
    again = TrainSettings(**{name: value for name, value in args.values().items() if name in ('loss_class_weight',)})
    assert again.loss_class_weight == args.loss_class_weight


@pytest.mark.parametrize(('weights', 'wanted'), [
    (['bright=1', 'c=2'], '--loss-class-weight lacks dark and has unknown c; the classes are bright, dark'),
    (['bright=1', 'dark=x'], 'the value of class dark must be a number'),
    (['bright=1', 'dark=nan'], "the value of class dark must be a number, not 'nan'"),
    (['1', '2', '3'], '--loss-class-weight must have 2 entries'),
    (['inverse'], '--loss-class-weight inverse must be numbers, CLASS=NUMBER for each class, an existing file, or '
                  'inv_freq or effective_num with --class-stats: '),
])
def test_weights_that_do_not_fit_the_classes_end_in_one_line(capsys, image_folder, tmp_path, weights, wanted):
    assert wanted in error_line(capsys, [
        *arguments(image_folder, tmp_path, **WEIGHTED), '--loss-class-weight', *weights])


def test_weights_are_given_for_all_classes_in_the_same_form():
    with pytest.raises(ValueError, match="'1' must be written CLASS=W, as the others"):
        TrainSettings(loss_class_weight=['1', 'dark=2'])


@pytest.mark.parametrize('content', [
    {'pos_counts': [30, 10], 'num_samples': 40}, {'pos_counts': {'dark': 10, 'bright': 30}, 'num_samples': 40},
    {'pos_counts': {'0': 30, '1': 10}, 'num_samples': 40}, {'bright': 30, 'dark': 10}])
def test_counts_of_classes_are_a_list_or_an_object(image_folder, tmp_path, content):
    path = tmp_path / 'stats.json'
    path.write_text(json.dumps(content))
    counts, total = read_stats(str(path), ('bright', 'dark'))
    assert (counts.tolist(), total) == ([30., 10.], 40)
    args, text = parse_arguments(build_parser(), arguments(
        image_folder, tmp_path, class_stats=path, loss_class_weight='inv_freq', **WEIGHTED))
    weights = prepare(args, text, start_process('cpu')).task.criterion.weight
    assert weights[1] / weights[0] == pytest.approx(3)


@pytest.mark.parametrize('content', ['[1]', '{"pos_counts": 3, "num_samples": 1}', '{', '{"pos_counts": {"a": "x"}}'])
def test_a_file_without_counts_ends_in_one_line(capsys, image_folder, tmp_path, content):
    (tmp_path / 'stats.json').write_text(content)
    assert 'class' in error_line(capsys, arguments(
        image_folder, tmp_path, class_stats=tmp_path / 'stats.json', loss_class_weight='inv_freq', **WEIGHTED))
    with pytest.raises(ValueError, match='must be a number, a list'):
        weights_text(True)


def test_a_teacher_of_a_fixed_size_is_built_for_the_images_of_the_run(image_folder, tmp_path):
    name = 'vit_tiny_patch16_224'
    teacher = timm.create_model(name, num_classes=2)
    save_file(teacher.state_dict(), tmp_path / 'teacher.safetensors')
    args, text = parse_arguments(build_parser(), arguments(
        image_folder, tmp_path, kd_model_name=name, kd_checkpoint=tmp_path / 'teacher.safetensors', img_size=32))
    task = prepare(args, text, start_process('cpu')).task
    images = torch.randn(2, 3, 32, 32)
    sized = timm.create_model(
        name, num_classes=2, img_size=32, pretrained=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / 'teacher.safetensors'), num_classes=2)).eval()
    assert torch.allclose(task.teacher(images), sized(images), atol=1e-5)


def test_both_heads_are_scaled_and_biased(image_folder, tmp_path):
    from gradaug_timm.training.building.networks import _initialise_head, build_network
    network = build_network(TrainSettings(model='levit_128s', num_classes=2, head_init_scale=0., head_init_bias=0.5))
    for head in network.get_classifier():
        assert not head.linear.weight.any() and (head.linear.bias == 0.5).all()
    with pytest.raises(ValueError, match='--head-init-scale and --head-init-bias need a classifier'):
        _initialise_head(timm.create_model('resnet10t', num_classes=0), 0.1, None)


@pytest.mark.parametrize(('argv', 'wanted'), [
    (['--native-amp'], dict(amp=True)), (['--apex-amp'], dict(amp=True)), (['--amp-impl', 'native'], dict(amp=False)),
    (['--no-test-pool'], dict(test_pool=False)), (['-d', 'torch/cifar10'], dict(dataset='torch/cifar10'))])
def test_validation_knows_flags_of_older_versions(argv, wanted):
    settings = parse_validation(['DIR', *argv])
    assert {name: getattr(settings, name) for name in wanted} == wanted


@pytest.mark.parametrize('flag', ['--aot-autograd', '--legacy-jit', '--torchscript'])
def test_validation_rejects_what_no_longer_exists_with_the_reason(capsys, flag):
    with pytest.raises(SystemExit):
        parse_validation(['DIR', flag])
    assert 'TorchScript is deprecated' in capsys.readouterr().err


@pytest.mark.parametrize(('parse', 'argv', 'wanted'), [
    (parse_validation, ['DIR', '--amp-dtype', 'bfloat16'], '--amp-dtype bfloat16 (without --amp)'),
    (parse_validation, ['DIR', '--torchcompile-mode', 'default', '--use-ema'],
     '--use-ema (without --checkpoint), --torchcompile-mode default (without --torchcompile)'),
    (parse_validation, ['DIR', '--results-format', 'json'], '--results-format json (without --results-file)'),
])
def test_other_commands_name_flags_without_effect(caplog, parse, argv, wanted):
    parse(argv)
    assert [line for line in caplog.messages if line.startswith('Without effect') and wanted in line]


def test_advice_names_our_flags(capsys, tmp_path):
    error = error_line(capsys, arguments(tmp_path, tmp_path, dataset='torch/cifar10', num_classes=10, img_size=32))
    assert 'add --dataset-download to download it' in error and 'download=True' not in error


def test_an_interrupted_run_names_its_checkpoint_and_the_command(image_folder, tmp_path, capsys):
    from train_helpers import at_batch

    def interrupt(*_):
        raise KeyboardInterrupt
    with at_batch(5, interrupt), pytest.raises(SystemExit) as ended:
        train(image_folder, tmp_path, epochs=3)
    last = tmp_path / 'run' / 'last.pth.tar'
    error = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 130
    assert f'interrupted; the last checkpoint is {last}; continue with: ' in error and error.endswith(
        f'--resume {last}')
    with at_batch(1, interrupt), pytest.raises(SystemExit):
        train(image_folder, tmp_path, epochs=3, experiment='other')
    assert f'there is no checkpoint in {tmp_path}/other yet' in capsys.readouterr().err


def test_the_command_that_continues_starts_nothing_anew():
    assert without_resume(['--resume', 'a', '--lr', '1', '--overwrite', '--start-epoch=3', '--amp']) == [
        '--lr', '1', '--amp']
