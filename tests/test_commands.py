"""Installed commands run the same code as the modules, and their help has groups."""
import argparse
import configparser
import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

import gradaug_timm
from gradaug_timm import convert
from gradaug_timm.detection import arguments as detection
from gradaug_timm.detection import validate as detection_validation
from gradaug_timm.evaluation import arguments as evaluation
from gradaug_timm.export import arguments as export
from gradaug_timm.extraction import arguments as extraction
from gradaug_timm.training import arguments as training

setup = configparser.ConfigParser()
setup.read(Path(__file__).resolve().parents[1] / 'setup.cfg')
COMMANDS = dict(
    line.replace(' ', '').split('=') for line in setup['options.entry_points']['console_scripts'].strip().splitlines())
PARSERS = {
    'gradaug-train': training, 'gradaug-validate': evaluation, 'gradaug-convert': convert,
    'gradaug-extract': extraction, 'gradaug-export': export,
    'gradaug-compare': importlib.import_module('gradaug_timm.compare.arguments'),
    'gradaug-report': importlib.import_module('gradaug_timm.report.main'),
    'gradaug-explain': importlib.import_module('gradaug_timm.explain.arguments'), 'gradaug-detect': detection,
    'gradaug-detect-validate': detection_validation,
    'gradaug-recipe': importlib.import_module('gradaug_timm.recipe.main'),
    'gradaug-predict': importlib.import_module('gradaug_timm.predict.arguments'),
    'gradaug-check-data': importlib.import_module('gradaug_timm.check_data.arguments'),
}


def test_every_command_of_the_package_is_checked_here():
    assert COMMANDS.keys() == PARSERS.keys()


@pytest.mark.parametrize('name', COMMANDS)
def test_a_command_is_called_by_its_own_name(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [f'/usr/bin/{name}', '--flagg'])
    module, _, function = COMMANDS[name].partition(':')
    with pytest.raises(SystemExit) as ended:
        getattr(importlib.import_module(module), function)()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f'{name}: error: ')
    assert PARSERS[name].build_parser().format_usage().startswith(f'usage: {name} ')


@pytest.mark.parametrize('name', COMMANDS)
def test_help_needs_no_extra(name, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda *_: None)
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    module, _, function = COMMANDS[name].partition(':')
    with pytest.raises(SystemExit) as ended:
        getattr(importlib.import_module(module), function)()
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f'usage: {name} ')


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_shows_the_versions_of_what_it_runs(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [name, '--version'])
    module, _, function = COMMANDS[name].partition(':')
    with pytest.raises(SystemExit) as ended:
        getattr(importlib.import_module(module), function)()
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == [
        'gradaug_timm', f'{gradaug_timm.__version__},', 'timm', f'{metadata.version("timm")},',
        'torch', torch.__version__]


@pytest.mark.parametrize('name', PARSERS)
def test_every_flag_is_shown_in_a_group_that_says_what_it_is_for(name):
    parser = PARSERS[name].build_parser()
    assert [action.option_strings for action in parser._optionals._group_actions
            if not {'--help', '--version'} & {*action.option_strings} and action.help != argparse.SUPPRESS] == []
    assert all(action.help for action in parser._actions)


def test_the_documents_give_commands_with_flags_and_settings_that_exist(project_root):
    text = (project_root / 'docs' / 'export.md').read_text()
    lines = [line for block in re.findall(r'^```bash\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
             for line in block.splitlines() if line.startswith('gradaug-')]
    assert len(lines) > 4
    for name, *words in map(str.split, lines):
        flags = {word for word in words if word.startswith('--')}
        assert flags <= PARSERS[name].build_parser()._option_string_actions.keys(), lines
        for settings in words[words.index('-c') + 1:] if '-c' in words else []:
            if settings.startswith('--'):
                break
            assert (project_root / 'hparams' / f'{settings}.yaml').is_file()


def test_the_module_of_detection_returns_figures_and_the_command_none(monkeypatch):
    monkeypatch.setattr(detection_validation, 'main', lambda: {'box_ap': 1.})
    assert detection_validation.command() is None  # anything else would be an exit status
