"""`python -m gradaug_timm.export --to`: a folder that can be used without gradaug_timm."""
import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch
from export_helpers import SIZE, images, logits, refusal, save_weights
from safetensors.torch import save_file
from train_helpers import train

from gradaug_timm.export import folder as folders
from gradaug_timm.export.main import main

# Loads a folder by timm, and with a last argument by transformers, where our package can't be imported.
ELSEWHERE = """
import sys
sys.modules['gradaug_timm'] = None
import timm, torch
network = timm.create_model('local-dir:' + sys.argv[1], pretrained=True).eval()
images = torch.load(sys.argv[2])
with torch.no_grad():
    results = [network(images)]
    if len(sys.argv) > 4:
        from transformers import AutoImageProcessor, TimmWrapperForImageClassification
        wrapped = TimmWrapperForImageClassification.from_pretrained(sys.argv[1]).eval()
        results.append(wrapped(images).logits)
        config = AutoImageProcessor.from_pretrained(sys.argv[1]).data_config
        results += [wrapped.config.id2label, tuple(config['input_size']), tuple(config['mean'])]
torch.save(results, sys.argv[3])
"""


@pytest.fixture(scope='module')
def run(image_folder, tmp_path_factory):
    """A short run with GradAug and averaged weights."""
    return train(
        image_folder, tmp_path_factory.mktemp('run'), model='gradaug_test_resnet', model_kwargs=None, img_size=SIZE,
        lr=0.05, model_ema=True, model_ema_decay=0.5, mean=[0.4, 0.4, 0.4], gradaug_divisor=4)


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp('exported') / 'net'
    names = folder.parent / 'names.txt'
    names.write_text('bright\ndark\n')
    main([str(run / 'model_best.safetensors'), '--to', str(folder), '--label-names', str(names), '--license', 'mit'])
    return folder


@pytest.fixture(scope='module')
def loaded_elsewhere(exported, tmp_path_factory):
    """The logits by timm; where transformers is installed, also those by it, its labels, and its size and mean."""
    folder = tmp_path_factory.mktemp('elsewhere')
    torch.save(images(), folder / 'images.pt')
    paths = [str(exported), str(folder / 'images.pt'), str(folder / 'results.pt')]
    flags = ['transformers'] if importlib.util.find_spec('transformers') else []
    ended = subprocess.run(
        [sys.executable, '-c', ELSEWHERE, *paths, *flags], capture_output=True, text=True, cwd=folder,
        env={**os.environ, 'HF_HUB_OFFLINE': '1'})
    assert ended.returncode == 0, ended.stderr
    return torch.load(folder / 'results.pt')


def test_plain_timm_loads_it_where_the_package_cannot_be_imported(loaded_elsewhere, run):
    assert torch.equal(loaded_elsewhere[0], logits(run / 'model_best.safetensors'))


def test_transformers_loads_it_with_labels_and_the_images_of_training(loaded_elsewhere, run):
    pytest.importorskip('transformers')
    _, output, labels, size, mean = loaded_elsewhere
    assert torch.equal(output, logits(run / 'model_best.safetensors'))
    assert labels == {0: 'bright', 1: 'dark'} and size == (3, SIZE, SIZE) and mean == (0.4, 0.4, 0.4)


def test_num_classes_is_named_once_where_transformers_passes_it_on(exported):
    config = json.loads((exported / 'config.json').read_text())
    assert 'num_classes' not in config['model_args'] and config['num_classes'] == 2
    assert config['architecture'] == 'test_resnet'
    assert not {'tag', 'license', 'origin_url', 'hf_hub_id'} & config['pretrained_cfg'].keys()  # of timm's weights


def test_the_card_tells_training_metric_loading_and_citation_and_no_path(exported, run, image_folder):
    card = (exported / 'README.md').read_text()
    for wanted in (
        'license: mit', 'architecture: test_resnet', 'classes: 2', 'data: a folder of images', 'epochs 1', 'divisor 4',
        'min_width 0.8', 'validation top1 after epoch 0: ', 'weights: moving average', 'yang2020gradaug',
        'timm.create_model(\'local-dir:net\', pretrained=True)', 'TimmWrapperForImageClassification.from_pretrained',
    ):
        assert wanted in card, wanted
    assert str(image_folder) not in card and str(run) not in card and str(exported.parent) not in card


def test_a_checkpoint_gives_trained_or_averaged_weights(run, tmp_path):
    state = torch.load(run / 'last.pth.tar', weights_only=False)
    for key, flags, told in (('state_dict', [], 'as trained'), ('state_dict_ema', ['--use-ema'], 'moving average')):
        main([str(run / 'last.pth.tar'), '--to', str(tmp_path / key), *flags])
        weights = tmp_path / key / 'model.safetensors'
        assert torch.equal(logits(weights), logits(state[key]))
        assert f'weights: {told}' in (tmp_path / key / 'README.md').read_text()
        assert 'license:' not in (tmp_path / key / 'README.md').read_text()
    assert not torch.equal(logits(state['state_dict']), logits(state['state_dict_ema']))


@pytest.mark.parametrize(('name', 'kwargs'), [
    ('test_vit', dict(img_size=96)), ('test_efficientnet', dict(bn_eps=0.01)), ('test_convnext', {})])
def test_arguments_of_the_network_are_told(name, kwargs, tmp_path):
    weights = save_weights(tmp_path / 'weights.pth', name, **kwargs)
    flags = ['--img-size', '96'] if 'img_size' in kwargs else ['--model-kwargs', 'bn_eps=0.01'] if kwargs else []
    main([str(weights), '-m', f'gradaug_{name}', '--num-classes', '5', *flags, '--to', str(tmp_path / 'net')])
    config = json.loads((tmp_path / 'net' / 'config.json').read_text())
    assert config['model_args'].get('bn_eps') == kwargs.get('bn_eps')
    assert config['pretrained_cfg']['input_size'][-1] == kwargs.get('img_size', 160)


@pytest.mark.parametrize('value', ['[]', '{', '"text"', 'null', 'NaN'])
def test_metadata_of_others_do_no_harm(value, tmp_path):
    state = torch.load(save_weights(tmp_path / 'weights.pth'))
    foreign = dict.fromkeys(('recipe', 'gradaug', 'metric', 'epoch', 'weights'), value)
    save_file(state, tmp_path / 'foreign.safetensors', foreign)
    net = tmp_path / 'net'
    main([str(tmp_path / 'foreign.safetensors'), '-m', 'test_resnet', '--num-classes', '5', '--to', str(net)])
    assert 'GradAug: off' in (net / 'README.md').read_text()


def test_networks_that_timm_lacks_are_written_with_a_warning_and_the_card_says_so(tmp_path, caplog):
    weights = save_weights(tmp_path / 'weights.pth', 'resnet20_cifar', depth=8)
    main([str(weights), '-m', 'resnet20_cifar', '--num-classes', '5', '--model-kwargs', 'depth=8',
          '--to', str(tmp_path / 'net')])
    assert 'timm has no resnet20_cifar' in caplog.text
    card = (tmp_path / 'net' / 'README.md').read_text()
    assert 'install and import the package gradaug_timm' in card and 'import gradaug_timm' in card
    torch.testing.assert_close(
        logits(tmp_path / 'net' / 'model.safetensors', name='resnet20_cifar', num_classes=5, depth=8),
        logits(torch.load(weights), name='resnet20_cifar', num_classes=5, depth=8))


def test_a_network_that_timm_computes_otherwise_is_refused(image_folder, tmp_path, capsys):
    trained = train(image_folder, tmp_path / 'run', shake_drop=0.5)
    error = refusal(capsys, trained / 'last.pth.tar', '--to', tmp_path / 'net')
    assert '--shake-drop 0.5, which scales residual branches' in error and '--onnx and --torch-export can' in error
    assert not (tmp_path / 'net').exists()


def test_what_computes_something_else_when_it_is_loaded_is_not_left_behind(run, tmp_path, capsys, monkeypatch):
    def spoil(network, folder, **kwargs):
        with torch.no_grad():
            network.fc.bias += 1
        save(network, folder, **kwargs)
    save = folders.save_for_hf
    monkeypatch.setattr(folders, 'save_for_hf', spoil)
    error = refusal(capsys, run / 'last.pth.tar', '--to', tmp_path / 'net')
    assert 'its outputs differ from the checkpoint\'s by' in error
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_without_the_flag(run, tmp_path, capsys):
    (tmp_path / 'net').mkdir()
    (tmp_path / 'net' / 'README.md').write_text('mine')
    (tmp_path / 'net' / 'notes.txt').write_text('mine too')
    error = refusal(capsys, run / 'last.pth.tar', '--to', tmp_path / 'net')
    assert f'{tmp_path}/net/README.md already exists; use --overwrite to replace' in error
    assert (tmp_path / 'net' / 'README.md').read_text() == 'mine'
    main([str(run / 'last.pth.tar'), '--to', str(tmp_path / 'net'), '--overwrite'])
    assert 'yang2020gradaug' in (tmp_path / 'net' / 'README.md').read_text()
    assert (tmp_path / 'net' / 'notes.txt').read_text() == 'mine too'


def test_what_cannot_be_done_is_told_in_one_line(run, tmp_path, capsys):
    checkpoint, net = run / 'last.pth.tar', tmp_path / 'net'
    assert 'nothing to write: give --to' in refusal(capsys, checkpoint)
    assert 'x.pth does not exist' in refusal(capsys, tmp_path / 'x.pth', '--to', net)
    assert '--private: it needs --push' in refusal(capsys, checkpoint, '--to', net, '--private')
    assert '--batch-size: it needs --onnx' in refusal(capsys, checkpoint, '--to', net, '--batch-size', 2)
    assert 'must end in .onnx' in refusal(capsys, checkpoint, '--onnx', tmp_path / 'x.pt')
    assert 'must be in a folder that exists' in refusal(capsys, checkpoint, '--to', tmp_path / 'gone' / 'net')
    (tmp_path / 'names').write_text('one\n')
    error = refusal(capsys, checkpoint, '--to', net, '--label-names', tmp_path / 'names')
    assert 'must have a name in each of 2 lines; it has 1 names in 1 lines' in error
    torch.save({}, tmp_path / 'x.pth')
    assert 'does not say which model its weights are for' in refusal(capsys, tmp_path / 'x.pth', '--to', net)
    (tmp_path / 'y.safetensors').write_bytes(b'garbage')
    assert 'y.safetensors can\'t be read' in refusal(capsys, tmp_path / 'y.safetensors', '--to', net)
    assert not net.exists()
