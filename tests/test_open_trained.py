"""open_trained and evaluate: trained networks and whole evaluations from Python."""
import json
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from gradaug_timm import EvaluationSettings, Subnet, evaluate, make_elastic, open_trained, save_extracted
from gradaug_timm.evaluation.main import main as validate
from gradaug_timm.evaluation.settings import OpeningSettings
from gradaug_timm.export.main import main as export
from gradaug_timm.training.main import main as train

MODEL = 'gradaug_resnet20_cifar'


@pytest.fixture(scope='module')
def run(image_folder, tmp_path_factory):
    """The folder of a short run with ShakeDrop and averaged weights."""
    output = tmp_path_factory.mktemp('runs')
    train([
        '--data-dir', str(image_folder), '--model', MODEL, '--model-kwargs', 'depth=8', '--num-classes', '2',
        '--epochs', '1', '-b', '8', '--warmup-epochs', '0', '--sched', 'none', '--no-aug', '--model-ema',
        '--shake-drop', '0.5', '--no-gradaug', '-j', '0', '--device', 'cpu',
        '--output', str(output), '--experiment', 'run'])
    return output / 'run'


def settings(image_folder, run, **more) -> EvaluationSettings:
    return EvaluationSettings(**{
        **dict(data_dir=image_folder, model=MODEL, model_kwargs={'depth': 8}, num_classes=2, batch_size=8, workers=0,
               device='cpu', checkpoint=run / 'last.pth.tar', use_train_size=True), **more})


def same_outputs(one, other, size=(3, 32, 32)) -> bool:
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(one(images), other(images))


def test_a_checkpoint_of_a_run_tells_its_network_how_it_sees_and_how_it_was_trained(run):
    trained = open_trained(run / 'last.pth.tar')
    assert (trained.name, trained.network.num_classes, trained.path) == (MODEL, 2, str(run / 'last.pth.tar'))
    assert trained.config['input_size'] == (3, 32, 32)
    assert trained.scaling == {'shake_drop': 0.5} and not trained.averaged
    assert trained.settings['epochs'] == 1
    assert not trained.network.training


def test_averaged_weights_are_taken_where_they_are_asked_for(run):
    plain, averaged = (open_trained(run / 'last.pth.tar', use_ema=use) for use in (False, True))
    assert averaged.averaged and not same_outputs(plain.network, averaged.network)
    best = open_trained(run / 'model_best.safetensors')
    assert best.averaged and best.settings['shake_drop'] == 0.5
    assert same_outputs(best.network, averaged.network)


def test_weights_alone_need_a_model_and_those_of_other_scripts_tell_nothing(tmp_path):
    network = timm.create_model('resnet20_cifar', num_classes=3, in_chans=1).eval()
    torch.save(network.state_dict(), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'x\.pth does not say which model its weights are for; give --model'):
        open_trained(tmp_path / 'x.pth')
    trained = open_trained(tmp_path / 'x.pth', model='resnet20_cifar', num_classes=3, in_chans=1, img_size=28)
    assert trained.settings == {} and trained.scaling == {}
    assert trained.config['input_size'] == (1, 28, 28)
    assert same_outputs(trained.network, network, (1, 28, 28))


def test_a_size_that_is_given_replaces_that_of_training_and_keeps_its_channels(tmp_path):
    network = timm.create_model('resnet20_cifar', num_classes=3, in_chans=1)
    state = dict(state_dict=network.state_dict(), arch='resnet20_cifar', args=Namespace(
        num_classes=3, input_size=[1, 28, 28], mean=[0.1], std=[0.3], interpolation='bilinear', lr=0.1))
    torch.save(state, tmp_path / 'x.pth.tar')
    assert open_trained(tmp_path / 'x.pth.tar').config['input_size'] == (1, 28, 28)
    config = open_trained(tmp_path / 'x.pth.tar', img_size=32, mean=[0.5]).config
    assert (config['input_size'], config['mean'], config['std']) == ((1, 32, 32), (0.5,), (0.3,))
    state['args'].interpolation = 'guessed'
    torch.save(state, tmp_path / 'y.pth.tar')
    with pytest.raises(ValueError, match=r'y\.pth\.tar was trained with settings that are not supported: .*guessed'):
        open_trained(tmp_path / 'y.pth.tar')


def test_an_exported_folder_opens_as_the_network_that_was_exported(tmp_path):
    network = timm.create_model('resnet20_cifar', num_classes=3, in_chans=1, depth=8).eval()
    torch.save(dict(state_dict=network.state_dict(), arch='resnet20_cifar', args=Namespace(
        num_classes=3, input_size=[1, 28, 28], model_kwargs={'depth': 8})), tmp_path / 'x.pth.tar')
    export([str(tmp_path / 'x.pth.tar'), '--to', str(tmp_path / 'folder')])
    trained = open_trained(tmp_path / 'folder')
    assert trained.path == str(tmp_path / 'folder') and trained.config['input_size'] == (1, 28, 28)
    assert same_outputs(trained.network, network, (1, 28, 28))
    with pytest.raises(ValueError, match=r'folder describes its network itself \(resnet20_cifar.*; leave out model'):
        open_trained(tmp_path / 'folder', model='resnet18')
    (tmp_path / 'folder' / 'config.json').write_text('{}')
    with pytest.raises(ValueError, match=r'config\.json does not describe a network of timm'):
        open_trained(tmp_path / 'folder')


def test_an_extracted_file_opens_as_the_sub_network(tmp_path):
    network = make_elastic(timm.create_model(MODEL, num_classes=3))
    dense = save_extracted(network, Subnet(0.5), tmp_path / 'small.safetensors')
    trained = open_trained(tmp_path / 'small.safetensors')
    assert same_outputs(trained.network, dense)
    assert trained.config['input_size'] == (3, 32, 32)
    assert same_outputs(open_trained(tmp_path / 'small.safetensors', model=MODEL, num_classes=3).network, dense)
    with pytest.raises(ValueError, match=r'small\.safetensors describes its network itself.*; leave out num_classes'):
        open_trained(tmp_path / 'small.safetensors', num_classes=4)


def test_a_converted_file_tells_its_network(tmp_path):
    network = timm.create_model('resnet20_cifar', num_classes=10).eval()
    save_file(network.state_dict(), tmp_path / 'x.safetensors', {
        'architecture': 'resnet20_cifar', 'source': 'x.pth.tar', 'num_classes': '10', 'model_kwargs': '{}',
        'mean': '[0.5, 0.5, 0.5]', 'input_size': '[3, 32, 32]', 'survival': '0.8'})
    trained = open_trained(tmp_path / 'x.safetensors')
    assert trained.config['mean'] == (0.5, 0.5, 0.5) and same_outputs(trained.network, network)


@pytest.mark.parametrize('arguments, message', [
    ([{}, {}], 'nothing to open: give a path, or a model and pretrained=True'),
    (['gone.pth', {}], r'gone\.pth does not exist'),
    (['.', {}], r'\. has none of model_best\.safetensors, model_best\.pth\.tar, last\.pth\.tar and no config\.json'),
    (['x.pth', {'pretrained': True}], 'both name weights'),
    (['x.pth', {'model': 'resnet20_cifra'}], 'did you mean resnet20_cifar'),
    (['x.pth', {'model': 'resnet20_cifar', 'img_size': 'big'}], "'big' must be a whole number"),
    (['x.pth', {'model': 'resnet20_cifar', 'num_classes': 3}], 'does not fit|doesn\'t fit --model resnet20_cifar'),
])
def test_what_cannot_be_opened_is_a_value_error_of_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(timm.create_model('resnet20_cifar', num_classes=10).state_dict(), 'x.pth')
    path, options = arguments
    with pytest.raises(ValueError, match=message) as raised:
        open_trained(path or '', **options)
    assert '\n' not in str(raised.value)


def test_evaluate_gives_the_results_that_validate_prints(image_folder, run, capsys):
    capsys.readouterr()
    validate([
        '--data-dir', str(image_folder), '--model', MODEL, '--model-kwargs', 'depth=8', '--num-classes', '2',
        '-b', '8', '-j', '0', '--device', 'cpu', '--use-train-size', '--checkpoint', str(run / 'last.pth.tar')])
    printed = json.loads(capsys.readouterr().out.removeprefix('--result\n'))
    assert evaluate(settings(image_folder, run)) == [printed]
    assert capsys.readouterr().out == ''


def test_a_trained_network_is_evaluated_as_its_checkpoint_and_stays_as_it_was(image_folder, run, tmp_path):
    trained = open_trained(run / 'last.pth.tar')
    plain = settings(image_folder, run)
    without = replace(plain, model='dpn92', checkpoint='', model_kwargs={}, results_file=str(tmp_path / 'x.csv'))
    assert evaluate(without, trained) == evaluate(plain)
    assert (tmp_path / 'x.csv').read_text().startswith('model,')
    smaller = replace(plain, img_size=24, interpolation='nearest')
    assert evaluate(replace(without, img_size=24, interpolation='nearest'), trained) == evaluate(smaller)
    widths = replace(plain, width=(1, 0.5), divisor=4)
    assert evaluate(replace(without, width=(1, 0.5), divisor=4), trained) == evaluate(widths)
    with torch.no_grad():
        before = trained.network(torch.ones(1, 3, 32, 32))
    evaluate(replace(without, model_dtype='bfloat16'), trained)
    assert torch.equal(trained.network(torch.ones(1, 3, 32, 32)), before)


def test_an_elastic_network_of_ones_own_is_evaluated(image_folder, run):
    network = make_elastic(timm.create_model(MODEL, num_classes=2, depth=8))
    plain = settings(image_folder, run, width=(1, 0.5), divisor=4)
    with pytest.raises(ValueError, match='needs no model, checkpoint, model_kwargs: leave the settings out'):
        evaluate(plain, network)
    rows = evaluate(replace(plain, model='dpn92', checkpoint='', model_kwargs={}), network)
    assert [row['width'] for row in rows] == [1, 0.5]
    assert rows[0]['param_count'] >= rows[1]['param_count']


def test_errors_of_evaluate_are_value_errors(image_folder, run, tmp_path):
    plain = settings(image_folder, run)
    for wrong, message in (
            (dict(divisor=4), '--divisor needs --width'),
            (dict(divisor=4, in_chans=3, mean=(0.5, 0.5)), '--divisor needs --width; --mean 0.5 0.5 must be one'),
            (dict(mean=(0.5, 0.5)), '--mean 0.5 0.5 must be one value, or one for each of 3 channels'),
            (dict(data_dir=str(tmp_path / 'gone')), 'gone'),
            (dict(split='test'), '--split test does not exist in'),
            (dict(checkpoint='gone.pth'), 'gone.pth does not exist'),
            (dict(results_file=str(tmp_path)), 'not a folder')):
        with pytest.raises(ValueError, match=message):
            evaluate(replace(plain, **wrong))
    with pytest.raises(ValueError, match='Linear does not say how many classes it has; give num_classes'):
        evaluate(EvaluationSettings(), torch.nn.Linear(2, 2))


def test_settings_are_checked_when_they_are_made():
    with pytest.raises(ValueError, match=r'width: .*above 0.*; batch_size: .*at least 1'):
        EvaluationSettings(width=[0.], batch_size=0)
    assert OpeningSettings(input_size=[1, 28, 28]).image_channels == 1
    assert isinstance(EvaluationSettings(data_dir=np.str_('x')).data_dir, str)


def test_fgsm_of_a_given_network_is_that_of_its_checkpoint(image_folder, run):
    attacked = settings(image_folder, run, fgsm_eps=(0.02,))
    own = evaluate(attacked)
    without = replace(attacked, model='dpn92', checkpoint='', model_kwargs={})
    given = evaluate(without, open_trained(run / 'last.pth.tar'))
    assert own[0]['fgsm_0.02_err'] == given[0]['fgsm_0.02_err']
