"""YAML files build on each other."""
from pathlib import Path

import pytest
from train_helpers import error_line

from gradaug_timm.training.arguments import build_parser, parse_arguments


def parse(*argv):
    return parse_arguments(build_parser(), ['--model', 'resnet18', *map(str, argv)])[0]


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path
    return write_file


def test_a_later_file_wins_over_an_earlier_one(write):
    first, second = write('a.yaml', 'lr: 0.1\nepochs: 7\nmodel_ema: true'), write('b.yaml', 'lr: 0.2\nmodel_ema: false')
    args = parse('-c', first, second)
    assert (args.lr, args.epochs, args.model_ema) == (0.2, 7, False)
    assert parse('-c', second, '-c', first).lr == 0.1


def test_the_command_line_wins_over_all_files(write):
    args = parse('-c', write('a.yaml', 'lr: 0.1'), write('b.yaml', 'lr: 0.2'), '--lr', '0.3')
    assert args.lr == 0.3


def test_a_later_file_takes_a_value_back_to_none(write):
    args = parse('-c', write('a.yaml', 'stop_epoch: 3'), write('b.yaml', 'stop_epoch: null'))
    assert args.stop_epoch is None


def test_a_file_builds_on_the_base_in_its_own_folder(write, monkeypatch):
    write('recipes/a.yaml', 'lr: 0.1\nepochs: 7\nmomentum: 0.5')
    write('recipes/b.yaml', 'base: a.yaml\nlr: 0.2\nmomentum: 0.6')
    last = write('c.yaml', 'base: recipes/b.yaml\nlr: 0.3')
    monkeypatch.chdir('/')
    args = parse('-c', last)
    assert (args.lr, args.momentum, args.epochs) == (0.3, 0.6, 7)


def test_a_layer_wins_over_what_a_base_gave(write):
    write('a.yaml', 'lr: 0.1')
    args = parse('-c', write('b.yaml', 'base: a.yaml\nepochs: 3'), write('c.yaml', 'lr: 0.4'))
    assert (args.lr, args.epochs) == (0.4, 3)


@pytest.mark.parametrize(('text', 'wanted'), [
    ('base: none.yaml', 'none.yaml does not exist'),
    ('base: ""', 'is a folder'),
    ('base: b.yaml', 'base leads back to'),
    ('base: [a.yaml]', 'base must be the name of a file, not list'),
    ('base: wrong.yaml', "wrong.yaml: unknown key 'lrr', did you mean lr?"),
])
def test_a_wrong_base_is_refused_in_one_line(capsys, write, text, wanted):
    write('wrong.yaml', 'lrr: 1')
    error = error_line(capsys, ['-c', str(write('b.yaml', text)), '--model', 'resnet18'])
    assert wanted in error


def test_the_problems_of_all_files_are_told_at_once(capsys, write):
    error = error_line(capsys, ['-c', str(write('a.yaml', 'lrr: 1')), str(write('b.yaml', 'epochs: few'))])
    assert "a.yaml: unknown key 'lrr'" in error and "b.yaml: epochs: 'few'" in error


@pytest.mark.parametrize(('text', 'wanted'), [
    ('lr: 2020-13-45', 'month must be in 1..12'),
    ('lr: !!int ""', 'out of range'),
    ('lr: !!timestamp x', 'groupdict'),
    ('amp: !!bool x', "'x'"),
    ('lr: ' + 5000 * '[', 'recursion'),
])
def test_what_yaml_itself_stumbles_over_is_told_in_one_line(capsys, write, text, wanted):
    path = write('a.yaml', text)
    error = error_line(capsys, ['-c', str(path)])
    assert str(path) in error and wanted in error


def test_an_empty_name_is_no_file(capsys):
    assert 'does not exist' in error_line(capsys, ['-c', '', '--model', 'resnet18'])


def test_a_folder_in_the_place_of_a_file_is_told(capsys, tmp_path):
    error = error_line(capsys, ['-c', str(tmp_path)])
    assert f'{tmp_path} is a folder' in error and '--data-dir' in error
