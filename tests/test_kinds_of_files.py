"""Every command opens every kind of file: run folder, checkpoints, weights, extracts, exported folders."""
import json
import os
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm import create_model
from timm.data import create_transform
from torch.utils.data import Dataset
from train_helpers import train

from gradaug_timm import EvaluationSettings, Subnet, Trained, evaluate, make_elastic, open_trained
from gradaug_timm import extract as dense_of
from gradaug_timm.evaluation.as_trained import is_other_data, with_data_of_run
from gradaug_timm.evaluation.main import main as validate
from gradaug_timm.explain.main import main as explain
from gradaug_timm.export.main import main as export
from gradaug_timm.extraction.arguments import ExtractionSettings
from gradaug_timm.extraction.main import main as extract

NETWORK = ('--model', 'resnet20_cifar', '--model-kwargs', 'depth=8', '--num-classes', '2')
GIVEN = {
    'nothing': (),
    'model': NETWORK[:2],
    'all': NETWORK,
}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A short run at 16 px, half the size of the model, and each kind of file that holds its network."""
    root = tmp_path_factory.mktemp('kinds')
    generator = np.random.default_rng(0)
    for split, count in (('train', 8), ('validation', 6)):
        for name, low in (('bright', 140), ('dark', 0)):
            (root / 'data' / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(low, low + 115, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / 'data' / split / name / f'{index}.png')
    run = train(root / 'data', root / 'runs', img_size=16, lr=0.03, mean=(0.4, 0.5, 0.6), crop_pct=0.8)
    weights = open_trained(run / 'last.pth.tar').network.state_dict()
    torch.save(weights, root / 'plain.pth')
    extract([str(run / 'last.pth.tar'), '--width', '0.75', '--divisor', '4', '--device', 'cpu',
             '--output', str(root / 'small.safetensors')])
    export([str(run / 'last.pth.tar'), '--to', str(root / 'exported')])
    return {
        'data': root / 'data',
        'run folder': run,
        'checkpoint': run / 'last.pth.tar',
        'best weights': run / 'model_best.safetensors',
        'extract': root / 'small.safetensors',
        'exported folder': root / 'exported',
        'plain weights': root / 'plain.pth',
    }


KINDS = ('run folder', 'checkpoint', 'best weights', 'extract', 'exported folder', 'plain weights')
SEEN = ('--img-size', '16', '--mean', '0.4', '0.5', '0.6', '--crop-pct', '0.8')  # what plain weights do not say
# Plain weights do not say which network they are for.
ALL = [(kind, given) for kind in KINDS for given in GIVEN if kind != 'plain weights' or given == 'all']
VALIDATED = [(kind, given) for kind, given in ALL if given == 'nothing' or kind == 'plain weights']
VALIDATED += [('extract', 'all'), ('exported folder', 'all')]
OTHERS = [('run folder', 'nothing'), ('extract', 'all')]


def cases(quick: list[tuple[str, str]]) -> list:
    return [pytest.param(*case, marks=() if case in quick else pytest.mark.slow) for case in ALL]


def expected_loss(files, kind) -> float:
    """The loss over the validation images, read and classified without the package's evaluation."""
    small, whole = open_trained(files['extract']).network, open_trained(files['checkpoint']).network
    network = small if kind == 'extract' else whole
    std = open_trained(files['checkpoint']).config['std']
    transform = create_transform((3, 16, 16), mean=(0.4, 0.5, 0.6), std=std, crop_pct=0.8, interpolation='bilinear')
    losses = []
    for label, name in enumerate(('bright', 'dark')):
        for path in sorted((files['data'] / 'validation' / name).iterdir()):
            with torch.no_grad(), Image.open(path) as image:
                logits = network(transform(image.convert('RGB'))[None])
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([label])).item())
    return sum(losses) / len(losses)


@pytest.mark.parametrize('kind, given', cases(VALIDATED))
def test_validate_opens_it_and_sees_images_as_training_did(files, kind, given, capsys):
    flags = [*GIVEN[given], *(SEEN if kind == 'plain weights' else ())]
    validate(['--data-dir', str(files['data']), '--checkpoint', str(files[kind]), '--interpolation', 'bilinear',
              '--device', 'cpu', '-j', '0', '-b', '8', *flags])
    results = json.loads(capsys.readouterr().out.removeprefix('--result\n'))
    results = results[0] if isinstance(results, list) else results  # of a folder, every checkpoint is evaluated
    assert (results['img_size'], results['crop_pct']) == (16, 0.8)
    assert results['loss'] == pytest.approx(expected_loss(files, kind), abs=1e-4)


@pytest.mark.parametrize('kind, given', cases(OTHERS))
def test_the_other_commands_open_it(files, kind, given, tmp_path, capsys):
    path, output = str(files[kind]), str(tmp_path / 'small.safetensors')
    extract([path, '--width', '0.5', '--divisor', '4', '--output', output, '--data-dir', str(files['data']),
             '--train-split', 'train', '--device', 'cpu', '-j', '0', *GIVEN[given]])
    small = open_trained(output)
    assert small.config['crop_pct'] == (0.8 if kind != 'plain weights' else 1.)
    explain([path, '--images', str(files['data'] / 'validation'), '--limit', '1', '--output', str(tmp_path / 'x.png'),
             *GIVEN[given]])
    to = ('--torch-export', tmp_path / 'x.pt2', '--batch-size', 1) if kind == 'extract' else ('--to', tmp_path / 'x')
    export([path, *map(str, to), *GIVEN[given]])
    assert len(os.listdir(tmp_path)) == 3


def test_an_extract_of_an_extract_is_narrower_and_runs_as_its_sub_network(files, tmp_path):
    for name, source, more in (('one', files['extract'], ('--skip-blocks', '1')), ('two', tmp_path / 'one', ())):
        extract([str(source) + ('.safetensors' if name == 'two' else ''), '--width', '0.7', '--device', 'cpu',
                 '--output', f'{tmp_path / name}.safetensors', *more])
    first, second = (open_trained(f'{tmp_path / name}.safetensors').network for name in ('one', 'two'))
    images = torch.randn(2, 3, 16, 16)
    whole = make_elastic(open_trained(files['extract']).network)
    with torch.no_grad():
        assert torch.allclose(first(images), dense_of(whole, Subnet(0.7, 4, skipped=(1,)))(images), atol=1e-5)
        assert torch.allclose(second(images), dense_of(make_elastic(first), Subnet(0.7, 4))(images), atol=1e-5)
    assert second.conv1.out_channels < first.conv1.out_channels <= 12
    assert second.extracted_as.width == pytest.approx(0.75 * 0.7 * 0.7) and len(second.extracted_as.skipped) == 1


def test_widths_of_an_extract_are_evaluated(files):
    rows = evaluate(EvaluationSettings(
        data_dir=files['data'], checkpoint=files['extract'], width=(1, 0.5), workers=0, batch_size=8, device='cpu',
        recalibration_batches=1))
    assert [row['width'] for row in rows] == [1, 0.5] and rows[0]['divisor'] == 4
    assert rows[0]['param_count'] >= rows[1]['param_count']


def test_flags_that_contradict_a_file_are_refused_in_one_line(files, capsys):
    for kind in ('extract', 'exported folder'):
        with pytest.raises(SystemExit):
            validate(['--data-dir', str(files['data']), '--checkpoint', str(files[kind]), '--model', 'resnet18'])
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert 'describes its network itself (resnet20_cifar, 2 classes); leave out model' in error


def test_the_size_of_training_is_used_and_both_sizes_are_told(files, caplog):
    settings = EvaluationSettings(
        data_dir=files['data'], checkpoint=files['checkpoint'], workers=0, batch_size=8, device='cpu')
    with caplog.at_level('INFO'):
        assert evaluate(settings)[0]['img_size'] == 16
    assert 'Images have 16 pixels, as in training; the default of resnet20_cifar is 32' in caplog.text
    assert '--model resnet20_cifar --num-classes 2' in caplog.text


@pytest.mark.parametrize(('dataset', 'run', 'other'), [
    ('', {'dataset': 'hfds/x'}, True), ('hfds/x', {'dataset': 'hfds/x'}, False), ('', {'dataset': None}, False),
    ('', {'target_key': 'kind'}, True), ('', {'input_key': 'img'}, True), ('hfds/x', {'target_key': 'kind'}, False),
    ('', {'input_key': '.bmp;.tif'}, False), ('', {}, False),
])
def test_fields_of_a_table_are_not_asked_of_a_folder(dataset, run, other):
    assert is_other_data(dataset, run) == other
    extraction = ExtractionSettings(checkpoint='x', output='x.safetensors', data_dir='x', dataset=dataset)
    opened = Trained(None, {}, '', settings={**run, 'input_img_mode': 'L'})
    images = extraction.images(opened)
    assert images.input_img_mode == 'L' and (images.target_key, images.input_key) == (
        (None, None) if other else (run.get('target_key'), run.get('input_key')))


def test_without_any_data_the_validation_images_of_the_run_are_evaluated(files):
    settings = EvaluationSettings(checkpoint=files['checkpoint'], workers=0, batch_size=8, device='cpu')
    named = EvaluationSettings(
        data_dir=files['data'], checkpoint=files['checkpoint'], workers=0, batch_size=8, device='cpu')
    assert evaluate(settings) == evaluate(named)


class Pixels(Dataset):
    """Images with several labels each, as a reader of the Hub gives them; it notes how it was asked for."""

    def __init__(self, asked: dict, target_transform=None):
        self.asked, self.transform, self.target_transform = asked, None, target_transform

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index):
        image = Image.new(self.asked['input_img_mode'], (20, 20))
        return self.transform(image), self.target_transform([index % 2])


@pytest.mark.parametrize('command', ['validate', 'extract'])
def test_the_data_flags_of_a_run_are_known_to_what_reads_its_data(command, tmp_path, monkeypatch, capsys):
    network = create_model('resnet20_cifar', depth=8, num_classes=2)
    torch.save(dict(state_dict=network.state_dict(), arch='resnet20_cifar', args=Namespace(
        model='resnet20_cifar', model_kwargs={'depth': 8}, num_classes=2, dataset='hfds/some/where', data_dir=None,
        train_split='learn', val_split='test', input_key='photo', target_key='tags', task='multilabel',
        target_format=None, input_img_mode='YCbCr', class_map='')), tmp_path / 'x.pth.tar')
    asked = {}

    def create(name, *, target_transform=None, **kwargs):
        asked.update(kwargs, name=name)
        return Pixels(asked, target_transform)
    monkeypatch.setattr('gradaug_timm.evaluation.loading.create_dataset', create)
    flags = ['--device', 'cpu', '-j', '0', '-b', '4']
    if command == 'validate':
        validate(['--checkpoint', str(tmp_path / 'x.pth.tar'), *flags])
        assert 'map' in json.loads(capsys.readouterr().out.removeprefix('--result\n'))
    else:
        extract([str(tmp_path / 'x.pth.tar'), '--dataset', 'hfds/some/where', '--width', '0.5', '--divisor', '4',
                 '--recalibration-batches', '1', '--output', str(tmp_path / 'x.safetensors'), *flags])
    split = 'test' if command == 'validate' else 'learn'
    assert (asked['name'], asked['split']) == ('hfds/some/where', split)
    assert (asked['input_key'], asked['target_key'], asked['input_img_mode']) == ('photo', 'tags', 'YCbCr')
    if command == 'extract':
        extract([str(tmp_path / 'x.pth.tar'), '--dataset', 'hfds/other', '--width', '0.5', '--divisor', '4',
                 '--recalibration-batches', '1', '--output', str(tmp_path / 'x.safetensors'), '--overwrite', *flags,
                 '--input-key', 'img', '--task', 'multilabel', '--train-split', 'train'])
        assert (asked['input_key'], asked['target_key'], asked['input_img_mode']) == ('img', None, 'YCbCr')


@pytest.mark.slow
def test_a_run_without_a_size_of_its_own_is_evaluated_at_timms_test_size_and_both_are_told(tmp_path, files, caplog):
    network = create_model('resnet10t', num_classes=2)
    torch.save(dict(state_dict=network.state_dict(), arch='resnet10t', args=Namespace(
        model='resnet10t', num_classes=2, img_size=None, input_size=None, epochs=1)), tmp_path / 'x.pth.tar')
    settings = dict(data_dir=files['data'], checkpoint=tmp_path / 'x.pth.tar', workers=0, batch_size=8, device='cpu')
    cfg = network.pretrained_cfg
    tested, trained = (evaluate(EvaluationSettings(**settings, use_train_size=use))[0] for use in (False, True))
    assert tested['crop_pct'] == cfg.get('test_crop_pct', cfg['crop_pct']) and trained['crop_pct'] == cfg['crop_pct']
    assert (tested['img_size'], trained['img_size']) == (cfg['test_input_size'][-1], cfg['input_size'][-1])
    assert 'Images have 224 pixels and crop 0.95, timm\'s choice for testing resnet10t' in caplog.text
    assert 'was validated at 176 and 0.875 in training: --use-train-size' in caplog.text


def test_best_weights_keep_the_data_flags_of_the_run_but_not_its_data_set():
    known = {'task': 'multilabel', 'target_key': 'tags', 'input_key': 'photo'}
    trained = Trained(create_model('resnet20_cifar', depth=8), {'input_size': (3, 32, 32)}, 'resnet20_cifar')
    settings = EvaluationSettings(dataset='hfds/some/where')
    completed = with_data_of_run(settings, replace(trained, settings=known))
    assert (completed.task, completed.target_key, completed.input_key) == ('multilabel', 'tags', 'photo')
    assert with_data_of_run(settings, replace(trained, settings={**known, 'dataset': 'hfds/other'})) == settings
    reading = ExtractionSettings(dataset='hfds/some/where').images(replace(trained, settings=known))
    assert (reading.task, reading.target_key, reading.dataset) == ('multilabel', 'tags', 'hfds/some/where')
