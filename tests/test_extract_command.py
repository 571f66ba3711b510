"""`python -m gradaug_timm.extract`: a checkpoint of train.py becomes the file of a sub-network."""
import json
import runpy
import sys

import pytest
import timm
import torch
from test_validate import read_images
from torch import nn
from train_helpers import train

from gradaug_timm import Subnet, activate, load_extracted, make_elastic
from gradaug_timm.evaluation import recalibrate
from gradaug_timm.evaluation.main import main as validate
from gradaug_timm.evaluation.network import load_weights
from gradaug_timm.extraction.main import main
from gradaug_timm.regularizers import add_shake_drop

MODEL = dict(model='resnet20_cifar', model_kwargs='depth=14')


@pytest.fixture(scope='module')
def checkpoint(image_folder, tmp_path_factory):
    """One of a short run of a plain name, with GradAug, averaged weights and ShakeDrop."""
    folder = train(
        image_folder, tmp_path_factory.mktemp('run'), **MODEL, img_size=32, epochs=2, lr=0.05, gradaug=True,
        gradaug_divisor=4, model_ema=True, model_ema_decay=0.5, shake_drop=0.5, interpolation='nearest')
    return folder / 'last.pth.tar'


@pytest.fixture
def run(checkpoint, tmp_path, capsys):
    """Runs the command; the network it wrote and the line it printed."""
    def run(*flags, checkpoint=checkpoint, output=tmp_path / 'small.safetensors'):
        main([str(checkpoint), '--output', str(output), '--device', 'cpu', *map(str, flags)])
        return load_extracted(output), capsys.readouterr().out.strip()
    return run


@pytest.fixture
def refusal(run, capsys):
    def refused(*flags, **kwargs):
        with pytest.raises(SystemExit) as ended:
            run(*flags, **kwargs)
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert ended.value.code == 2 and line.startswith('python -m gradaug_timm.extract: error: ')
        return line
    return refused


def trained_network(checkpoint, **kwargs):
    model = timm.create_model('gradaug_resnet20_cifar', num_classes=2, depth=14)
    load_weights(model, str(checkpoint), name='resnet20_cifar', **kwargs)
    return make_elastic(model).eval()


@torch.no_grad()
def test_the_network_evaluates_as_validate_evaluates_the_subnetwork(run, checkpoint, image_folder, capsys):
    data = ['--data-dir', str(image_folder), '-j', '0']  # 24 images: one batch, whatever its order
    network, line = run('--width', 0.5, *data)
    validate([
        *data, '--model', 'resnet20_cifar', '--model-kwargs', 'depth=14', '--num-classes', '2', '--device', 'cpu',
        '--checkpoint', str(checkpoint), '--width', '0.5'])
    results = json.loads(capsys.readouterr().out.removeprefix('--result\n'))
    images, labels = read_images(image_folder / 'validation')
    loss = nn.functional.cross_entropy(network(images), labels).item()
    assert loss == pytest.approx(results['loss'], rel=1e-3)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert results['param_count'] == round(count / 1e6, 2)
    assert f'{count / 1e6:.2f} million parameters, {results["multiply_adds"] / 1e6:.1f} million multiply-adds' in line
    assert 'resnet20_cifar at width 0.5 with divisor 4' in line


@torch.no_grad()
def test_without_data_the_full_networks_statistics_are_kept_and_that_is_said(run, checkpoint, caplog):
    network, _ = run('--width', 0.5)
    model, x = trained_network(checkpoint), torch.randn(4, 3, 32, 32)
    add_shake_drop(model, 0.5)
    with activate(model.eval(), Subnet(0.5, 4)):
        torch.testing.assert_close(network(x), model(x))
    assert 'give --data-dir' in caplog.text


@torch.no_grad()
def test_averaged_weights_skipped_blocks_and_another_divisor(run, checkpoint):
    network, _ = run('--width', 0.75, '--divisor', 8, '--skip-blocks', 1, 3, '--use-ema')
    model, x = trained_network(checkpoint, use_ema=True), torch.randn(4, 3, 32, 32)
    add_shake_drop(model, 0.5)
    with activate(model.eval(), Subnet(0.75, 8, (1, 3))):
        torch.testing.assert_close(network(x), model(x))
    assert not torch.allclose(network(x), run('--width', 0.75, '--overwrite')[0](x))


@torch.no_grad()
def test_the_whole_network_needs_no_recalibration(run, checkpoint, caplog):
    network, line = run()
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(network(x), add_shake_drop(trained_network(checkpoint), 0.5).eval()(x))
    assert '100.0% of the full network' in line and caplog.text.count('--data-dir') == 0


def test_the_file_tells_how_the_checkpoint_was_trained(run):
    cfg = run('--width', 0.5)[0].pretrained_cfg
    assert (cfg['architecture'], cfg['num_classes'], cfg['input_size']) == ('resnet20_cifar', 2, (3, 32, 32))
    assert cfg['interpolation'] == 'nearest'
    assert run('--width', 0.5, '--img-size', 48, '--overwrite')[0].pretrained_cfg['input_size'] == (3, 48, 48)


def test_another_size_replaces_all_of_the_trained_one(run, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=False)
    content['args'].input_size, content['args'].img_size = [3, 32, 32], None
    torch.save(content, tmp_path / 'sized.pth.tar')
    for flags, side in ((), 32), (('--img-size', 48), 48):
        network, _ = run('--overwrite', *flags, checkpoint=tmp_path / 'sized.pth.tar')
        assert network.pretrained_cfg['input_size'] == (3, side, side)


@torch.no_grad()
def test_a_dataset_that_needs_no_folder_recalibrates_too(run, checkpoint, monkeypatch):
    images = torch.randn(24, 3, 32, 32)
    monkeypatch.setattr('gradaug_timm.extraction.main.training_batches', lambda *_, **__: [images])
    network, _ = run('--width', 0.5, '--dataset', 'gradaug/mnist5k')
    model = add_shake_drop(trained_network(checkpoint), 0.5).eval()
    recalibrate(model, Subnet(0.5, 4), [images])
    with activate(model, Subnet(0.5, 4)):
        torch.testing.assert_close(network(images), model(images))


@torch.no_grad()
def test_weights_without_arguments_need_the_models_name(run, refusal, tmp_path):
    model = timm.create_model('gradaug_test_vit', num_classes=3)
    torch.save(model.state_dict(), tmp_path / 'vit.pth')
    line = refusal(checkpoint=tmp_path / 'vit.pth')
    assert line.endswith('does not say which model its weights are for; give --model')
    network, _ = run('--model', 'test_vit', '--num-classes', 3, '--width', 0.75, checkpoint=tmp_path / 'vit.pth')
    x = torch.randn(2, 3, 160, 160)
    with activate(model.eval(), Subnet(0.75)):
        torch.testing.assert_close(network(x), model(x))


def test_what_cannot_be_done_is_refused_in_one_line(refusal, tmp_path, image_folder):
    assert 'x.pth does not exist' in refusal(checkpoint=tmp_path / 'x.pth')
    (tmp_path / 'x.pth').write_bytes(b'garbage')
    assert 'x.pth can\'t be read: it is damaged or no checkpoint' in refusal(checkpoint=tmp_path / 'x.pth')
    torch.save([1], tmp_path / 'x.pth')
    assert 'x.pth holds no weights but a list' in refusal(checkpoint=tmp_path / 'x.pth')
    (tmp_path / 'd.safetensors').mkdir()
    assert 'd.safetensors\' must be a file, not a folder' in refusal(output=tmp_path / 'd.safetensors')
    assert '--divisor 64 is too large for --width 0.5' in refusal('--width', 0.5, '--divisor', 64)
    assert 'must end in .safetensors' in refusal(output=tmp_path / 'small.pth')
    assert 'must be in a folder that exists' in refusal(output=tmp_path / 'gone' / 'small.safetensors')
    assert '--width: \'1.5\' must be a number above 0 and at most 1' in refusal('--width', 1.5)
    assert 'unknown flag --widths, did you mean --width?' in refusal('--widths', 0.5)
    assert '--skip-blocks 6 9 can\'t be used' in (line := refusal('--skip-blocks', 5, 6, 9)) and 'has 6 blocks' in line
    assert 'doesn\'t fit --model resnet20_cifar' in refusal('--num-classes', 3)
    assert '--train-split nowhere does not exist in' in refusal(
        '--width', 0.5, '--data-dir', image_folder, '--train-split', 'nowhere')
    (tmp_path / 'small.safetensors').write_text('there')
    assert 'already exists; use --overwrite to replace it' in refusal()


def test_it_runs_as_a_module(checkpoint, tmp_path, monkeypatch, capsys):
    path = tmp_path / 'small.safetensors'
    monkeypatch.setattr(sys, 'argv', ['', str(checkpoint), '--output', str(path), '--width', '0.5', '--device', 'cpu'])
    monkeypatch.delitem(sys.modules, 'gradaug_timm.extract', raising=False)
    runpy.run_module('gradaug_timm.extract', run_name='__main__')  # as `python -m gradaug_timm.extract` does
    assert capsys.readouterr().out.startswith(f'{path}: resnet20_cifar at width 0.5')
    load_extracted(path)
