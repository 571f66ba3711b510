"""Writes docs/reference.md, the reference of all settings, from the dataclass and the commands' own parsers.

    python docs/reference.py
"""
import argparse
import configparser
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gradaug_timm import GradAugSettings  # noqa: E402
from gradaug_timm.cli import StrictParser  # noqa: E402
from gradaug_timm.task.settings import SMALL_IMAGE  # noqa: E402

OUTPUT = ROOT / 'docs' / 'reference.md'
HEAD = """# Reference of all settings

Written by `python docs/reference.py` from the dataclass and the parsers; a test compares. Every flag of `train.py` is a
key of its YAML files, too, with `_` for `-` and without the leading dashes. What is left out takes the default, or, of
GradAug, the preset of the first table. In Python, the flags of `train.py` are the fields of `TrainSettings`, and those
of `validate.py` the fields of `EvaluationSettings`. Every command also takes `--help` and `--version`.
"""
MAINS = (
    'gradaug_timm.training.main:main', 'gradaug_timm.evaluation.main:main', 'gradaug_timm.report.main:main',
    'gradaug_timm.extraction.main:main', 'gradaug_timm.convert:main', 'gradaug_timm.explain.main:main',
    'gradaug_timm.detection.train:main', 'gradaug_timm.detection.validate:main', 'gradaug_timm.coverage.__main__:main',
)


class _Captured(BaseException):
    """Carries a parser out of the command that was about to use it."""


def parser_of(main: Callable) -> argparse.ArgumentParser:
    """The parser that a command gives its command line to."""
    def capture(parser, *_, **__):
        raise _Captured(parser)

    with patch.object(StrictParser, 'parse_known_args', capture), patch.object(sys, 'argv', ['command']):
        try:
            main()
        except _Captured as captured:
            return captured.args[0]
    raise RuntimeError(f'{main.__module__} takes no command line by cli.StrictParser')


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands by their names, those that setup.cfg installs included."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    scripts = setup.get('options.entry_points', 'console_scripts', fallback='')
    installed = [line.split('=')[1].strip() for line in scripts.splitlines() if line.strip()]
    places = [place.split(':') for place in dict.fromkeys([*MAINS, *installed])]
    parsers = [parser_of(getattr(import_module(module), name)) for module, name in places]
    return {parser.prog: parser for parser in parsers}


def described(cls: type) -> dict[str, str]:
    """What the docstring of a class says of each of its arguments."""
    section = inspect.getdoc(cls).split('Args:\n')[1].split('\n\n')[0]
    found = re.findall(r'^ {4}(\w+): (.*(?:\n {8}.*)*)', section, re.MULTILINE)
    return {name: ' '.join(text.split()) for name, text in found}


def settings_table() -> Iterator[str]:
    """A row for each field of GradAugSettings."""
    small, texts = GradAugSettings.preset(SMALL_IMAGE - 1), described(GradAugSettings)
    yield f'| field | flag | default | preset below {SMALL_IMAGE} px, where it differs | meaning |'
    yield '|---|---|---|---|---|'
    flags = commands()['train.py']._option_string_actions
    for field in fields(GradAugSettings):
        flag = f'--gradaug-{field.name.replace("_", "-")}'
        flag = flag if flag in flags else f'--{field.name.replace("_", "-")}'
        preset = getattr(small, field.name)
        differs = '' if preset == field.default else code(preset)
        yield f'| `{field.name}` | `{flag}` | {code(field.default)} | {differs} | {cell(texts[field.name])} |'


def code(value) -> str:
    """A value as it would be written: lists with blanks, what is no round number as a fraction."""
    if value is None or value in ('', (), [], {}):
        return 'none'
    return f'`{" ".join(map(number, value if isinstance(value, (tuple, list)) else [value]))}`'


def number(value) -> str:
    """A number, such as 0.8571428571428571 as 6/7; other values as they are."""
    if not isinstance(value, float):
        return str(value)
    fraction = Fraction(value).limit_denominator(9)
    return str(fraction) if fraction.denominator in (3, 7) and abs(fraction - value) < 1e-12 else f'{value:g}'


def cell(text: str) -> str:
    """Text that a table can hold."""
    return ' '.join(text.split()).replace('|', '\\|')


def flag_rows(group: argparse._ArgumentGroup, parser: argparse.ArgumentParser) -> Iterator[str]:
    """A row for each flag of a group that is taken."""
    for action in group._group_actions:
        if action.help is argparse.SUPPRESS or isinstance(action, (argparse._HelpAction, argparse._VersionAction)):
            continue
        names = ', '.join(f'`{name}`' for name in action.option_strings) or f'`{action.metavar or action.dest}`'
        values = '' if action.nargs == 0 else parser._get_formatter()._format_args(action, metavar(action))
        default = 'off' if action.default is False else 'on' if action.default is True else code(action.default)
        expanded = parser._get_formatter()._expand_help(action) if action.help else ''
        text = re.sub(r' ?\(default: [^()]*(\([^()]*\))?[^()]*\)', '', expanded)
        names += f' `{cell(values)}`' if values and action.option_strings else ''
        yield f'| {names} | {default} | {cell(text)} |'


def metavar(action: argparse.Action) -> str:
    """What stands for the value of a flag."""
    return '{' + ','.join(map(str, action.choices)) + '}' if action.choices else action.dest.upper()


def reference() -> str:
    """The whole page."""
    lines = [HEAD, '## GradAugSettings', '', *settings_table()]
    for name, parser in commands().items():
        lines += ['', f'## {name}', '', cell(parser.description or '')]
        for group in parser._action_groups:
            rows = list(flag_rows(group, parser))
            if rows:
                lines += ['', f'### {name}: {group.title}', '', '| flag | default | meaning |', '|---|---|---|', *rows]
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    OUTPUT.write_text(reference(), encoding='utf-8')
    print(f'wrote {OUTPUT.relative_to(ROOT)}')
