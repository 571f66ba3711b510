"""The settings that come with the package are found by name."""
from pathlib import Path

import pytest
from train_helpers import error_line

from gradaug_timm.training.arguments import build_parser, parse_arguments

NAME = 'cifar100/wide_resnet28_10_gradaug'


def parse(*argv):
    return parse_arguments(build_parser(), ['-c', *map(str, argv)])[0].values()


@pytest.mark.parametrize('name', [NAME, f'{NAME}.yaml', f'hparams/{NAME}', f'hparams/{NAME}.yaml'])
def test_a_name_is_the_file_in_hparams(name, tmp_path, monkeypatch, project_root):
    monkeypatch.chdir(tmp_path)
    assert parse(name) == parse(project_root / 'hparams' / f'{NAME}.yaml')


def test_layers_have_names_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = parse(NAME, 'layers/cifar100_small')
    assert (args['epochs'], args['dataset']) == (42, 'torch/cifar100')


def test_a_real_file_wins_over_a_name_and_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('quickstart').mkdir()
    assert parse('quickstart')['dataset'] == 'gradaug/mnist5k'
    Path('quickstart').rmdir()
    Path('quickstart').write_text('model: resnet18\nepochs: 7')
    assert (parse('quickstart')['epochs'], parse('quickstart')['dataset']) == (7, '')
    assert parse('quickstart.yaml')['dataset'] == 'gradaug/mnist5k'


def test_a_file_builds_on_shipped_settings_by_name(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(f'base: {NAME}\nepochs: 3')
    assert (parse(path)['epochs'], parse(path)['gradaug_min_width'], parse(path)['lr']) == (3, 0.8, 0.1)
    path.write_text('base: cifar100/_wide_resnet28_10\nepochs: 3')
    assert (parse(path)['model'], parse(path)['lr']) == ('wide_resnet28_10', 0.1)
    (tmp_path / 'cifar100').mkdir()
    (tmp_path / 'cifar100' / '_wide_resnet28_10').write_text('model: resnet18\nlr: 0.7')
    assert parse(path)['lr'] == 0.7


@pytest.mark.parametrize(('name', 'near'), [
    ('cifar100/wide_resnet28_10_gradag', NAME), ('quickstrat', 'quickstart'), ('quickstrat.yaml', 'quickstart'),
    ('hparams/quikstart.yaml', 'quickstart'), ('resnet50_gradaug_cutmix', 'imagenet/resnet50_gradaug_cutmix'),
])
def test_an_unknown_name_ends_in_one_line_with_the_nearest(capsys, name, near):
    error = error_line(capsys, ['-c', name])
    assert error == f'train.py: error: {name}: No such file or directory, did you mean {near}?'


def test_no_name_reaches_outside_the_settings(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.yaml').write_text('model: resnet18')
    for name in (tmp_path / 'a', '../hparams/quickstart', '../ruff'):
        assert 'No such file' in error_line(capsys, ['-c', str(name)])
