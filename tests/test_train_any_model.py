"""GradAug's defaults for networks of many kinds, and which networks are refused."""
import json
from pathlib import Path

import pytest
import timm
import torch
from timm.models import register_model
from torch import nn
from train_helpers import arguments, error_line, read_summary, train

from gradaug_timm import GradAugSettings, Subnet, activate, make_elastic
from gradaug_timm.evaluation.arguments import parse
from gradaug_timm.evaluation.jobs import find_jobs
from gradaug_timm.evaluation.main import main as evaluate
from gradaug_timm.task.fit_inputs import fit_inputs, right_angles, rounded_size
from gradaug_timm.task.transformations import Rotation
from gradaug_timm.task.transforms import InputTransform, apply_transform
from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.building.gradaug import check_narrower, narrower
from gradaug_timm.training.building.networks import build_network

VIT = dict(model='vit_tiny_patch16_224', model_kwargs='depth=1')
SWIN = dict(
    model='swin_tiny_patch4_window7_224',
    model_kwargs=['window_size=4', 'embed_dim=16', 'depths=(2,)', 'num_heads=(2,)'])
COATNET = dict(model='test_coatnet', model_kwargs=None, img_size=64, gradaug=True)


def built(image_folder, tmp_path, **flags) -> nn.Module:
    args, _ = parse_arguments(build_parser(), arguments(image_folder, tmp_path, **flags))
    torch.manual_seed(0)
    return build_network(args).eval()


def fitted(name: str, pixels: int, *, given: dict | None = None, **kwargs) -> GradAugSettings:
    network = make_elastic(timm.create_model(name, **kwargs))
    settings = GradAugSettings.preset(pixels, **(given or {}))
    return fit_inputs(network, settings, (3, pixels, pixels), given=given or {})


@pytest.mark.parametrize(('name', 'pixels', 'kwargs', 'sizes'), [
    ('test_convnext', 160, {}, (160, 137, 114, 91)),
    ('test_vit', 96, dict(depth=1), (96, 80, 64, 48)),
    ('test_vit', 64, dict(depth=1), (64, 48)),
    ('eva02_tiny_patch14_224', 56, dict(depth=1, img_size=56, dynamic_img_size=True), (56, 42)),
])
def test_networks_get_the_sizes_of_the_preset_or_those_of_whole_patches_next_to_them(name, pixels, kwargs, sizes):
    settings = fitted(name, pixels, **kwargs)
    assert tuple(round(size * pixels) for size in settings.sizes) == sizes
    assert settings.rotation == ()


@pytest.mark.parametrize(('name', 'kwargs'), [('test_coatnet', {}), ('vit_tiny_patch16_224', dict(depth=1))])
def test_networks_of_one_size_get_rotated_images(name, kwargs):
    settings = fitted(name, 64, img_size=64, **kwargs)
    assert (settings.sizes, settings.rotation) == ((1.0,), (0.0, 90.0, 180.0, 270.0))


def test_a_network_that_timm_calls_fixed_gets_rotated_images_even_if_it_runs_at_other_sizes():
    network = make_elastic(timm.create_model('test_convnext'))
    network._traits = {**network._traits, 'fixed_input_size': True}
    settings = fit_inputs(network, GradAugSettings(), (3, 64, 48))
    assert (settings.sizes, settings.rotation) == ((1.0,), (0.0, 180.0))


def test_what_was_given_is_never_replaced():
    assert fitted('test_convnext', 64, given=dict(sizes=(1.0, 50))).sizes == (1.0, 50)
    assert fitted('test_coatnet', 64, given=dict(rotation=(5.0,)), img_size=64).rotation == (5.0,)
    with pytest.raises(ValueError, match=r'--gradaug-sizes 0\.75: the network fails at 48x48 pixels and width 0.8'):
        fitted('test_coatnet', 64, given=dict(sizes=(1.0, 0.75)), img_size=64)
    with pytest.raises(ValueError, match='--img-size or --input-size: the network fails at 64x64 pixels'):
        fitted('vit_tiny_patch16_224', 64, depth=1)


@pytest.mark.parametrize(('size', 'pixels', 'stride', 'expected'), [
    (6 / 7, 224, 16, 192), (6 / 7, 224, 14, 196), (4 / 7, 224, 32, 128), (0.75, 32, 32, 32), (0.1, 224, 32, 32),
    (7 / 8, 64, 16, 64), (1.0, 100, 16, 96), (0.99, 20, 32, 20),
])
def test_sizes_are_rounded_half_up_to_multiples_of_the_stride_within_the_image(size, pixels, stride, expected):
    assert rounded_size(size, pixels, stride) * pixels == pytest.approx(expected)


@pytest.mark.parametrize('shape', [(6, 6), (7, 7), (4, 8)])
def test_right_angles_move_every_pixel_and_leave_no_empty_corner(shape):
    images = torch.rand(2, 3, *shape) + 1
    for angle in right_angles(*shape):
        turned = apply_transform(images, InputTransform((Rotation(angle),)))
        torch.testing.assert_close(turned, torch.rot90(images, round(angle / 90), (2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('flags', 'smaller'), [
    (VIT, 48), (SWIN, 56), (dict(model='eva02_tiny_patch14_224', model_kwargs='depth=1'), 56)],
    ids=lambda value: value['model'] if isinstance(value, dict) else '')
@torch.no_grad()
def test_a_network_that_takes_any_size_for_gradaug_is_the_same_at_its_own(image_folder, tmp_path, flags, smaller):
    flags = {**flags, 'img_size': 112}
    plain = built(image_folder, tmp_path, **flags)
    elastic = make_elastic(built(image_folder, tmp_path, gradaug=True, **flags))
    weights = elastic.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in plain.state_dict().items())
    images = torch.randn(2, 3, 112, 112)
    assert torch.equal(elastic(images), plain(images))
    with activate(elastic, Subnet(0.75)):
        assert elastic(torch.randn(2, 3, smaller, smaller)).shape == (2, 2)


@pytest.mark.parametrize(('flags', 'sizes'), [(VIT, [1.0, 0.75]), (SWIN, [1.0, 0.875, 0.75])],
                         ids=lambda value: value['model'] if isinstance(value, dict) else '')
def test_networks_of_any_size_train_with_smaller_images(image_folder, tmp_path, flags, sizes):
    assert_trained(train(image_folder, tmp_path, img_size=64, gradaug=True, **flags), sizes, rotation=[])


@pytest.fixture(scope='module')
def rotated(image_folder, tmp_path_factory) -> Path:
    """The folder of a run of a network of one size."""
    return train(image_folder, tmp_path_factory.mktemp('rotated'), **COATNET)


def assert_trained(folder: Path, sizes: list[float], rotation: list[float]) -> None:
    settings = json.loads((folder / 'run.json').read_text())['gradaug']
    assert (settings['sizes'], settings['rotation']) == (sizes, rotation)
    row, = read_summary(folder)
    assert float(row['train_loss_subnet_1']) > 0


def test_networks_of_one_size_train_with_rotated_images(rotated):
    assert_trained(rotated, [1.0], [0.0, 90.0, 180.0, 270.0])


def test_a_run_is_continued_with_the_inputs_that_the_network_got_and_no_others(
        rotated, image_folder, tmp_path, capsys):
    checkpoint = rotated / 'last.pth.tar'
    line = error_line(capsys, arguments(image_folder, tmp_path, resume=checkpoint, gradaug_rotation=[5], **COATNET))
    assert f'--gradaug-rotation 5.0: the checkpoint {checkpoint} was trained with 0.0 90.0 180.0 270.0' in line
    assert len(read_summary(train(image_folder, tmp_path, resume=checkpoint, epochs=2, **COATNET))) == 1


def test_a_checkpoint_of_a_resized_network_is_evaluated_at_its_size(image_folder, tmp_path, capsys):
    checkpoint = train(image_folder, tmp_path, img_size=32, **VIT) / 'last.pth.tar'
    evaluate(['--data-dir', str(image_folder), '--model', VIT['model'], '--model-kwargs', 'depth=1', '--img-size', '32',
              '--num-classes', '2', '--checkpoint', str(checkpoint), '--device', 'cpu', '-j', '0'])
    assert '"img_size": 32' in capsys.readouterr().out


def test_the_smallest_change_that_narrows_a_network_is_named():
    assert narrower(0.9, 8, lambda width, divisor: 0.9 if divisor < 4 else 1.) == '--gradaug-divisor 1 keeps 90%'
    assert narrower(0.9, 8, lambda width, divisor: width) == '--gradaug-divisor 4 keeps 90%'
    assert narrower(0.9, 1, lambda width, divisor: 0.5 if width < 0.65 else 1.) == '--gradaug-min-width 0.6 keeps 50%'
    assert 'also keep more than' in narrower(0.9, 1, lambda width, divisor: 1.)


def test_a_network_that_hardly_gets_narrower_is_warned_of_with_what_helps(caplog):
    network = make_elastic(timm.create_model('resnet20_cifar', depth=8))
    check_narrower('resnet20_cifar', network, GradAugSettings(min_width=0.98, divisor=1), (3, 16, 16))
    assert 'Width 0.98 keeps 9' in caplog.text and '--gradaug-min-width 0.8 keeps' in caplog.text


class SortedChannels(nn.Module):
    """A network whose only features are sorted by value, so that no channel can be left out."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)).sort(dim=1).values)


@register_model
def sorted_channels(pretrained: bool = False, num_classes: int = 2, **kwargs) -> nn.Module:
    return SortedChannels(num_classes)


def test_the_training_script_says_why_a_network_is_refused(image_folder, tmp_path, capsys):
    line = error_line(capsys, arguments(
        image_folder, tmp_path, model='sorted_channels', model_kwargs=None, gradaug=True, experiment='refused'))
    assert '--gradaug does not support --model sorted_channels: SortedChannels can\'t run as sub-networks: ' in line
    assert list(tmp_path.iterdir()) == []


def test_the_evaluation_says_why_a_network_is_refused(image_folder, capsys):
    with pytest.raises(SystemExit) as ended:
        evaluate(['--data-dir', str(image_folder), '--model', 'sorted_channels', '--num-classes', '2', '--width', '0.5',
                  '--device', 'cpu', '-j', '0'])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('validate.py: error: --width can\'t be used with --model sorted_channels: SortedChannels ')


def test_all_models_are_evaluated_once():
    names = [name for name, _ in find_jobs(parse(['--model', 'all', '--data-dir', '.']))]
    assert len(names) > 500 and not [name for name in names if name.startswith('gradaug_')]
