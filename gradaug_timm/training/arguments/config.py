"""YAML files of flags: strict, and all their problems told at once."""
import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from ...cli import Refuse, StrictParser, nearest
from ...flags import converted, describe
from ...upstream import parser_actions
from .run import NO_NAFLEX
from .shipped import find_settings, hint

NOT_KEYS = ('config', 'dry_run', 'help')
COMMAND_LINE = 'command line'
# What yaml raises where a value isn't of its tag (a month 13, `!!int ''`), or lists are nested without end.
BAD_YAML = (yaml.YAMLError, AttributeError, LookupError, RecursionError, ValueError)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f'key {key!r} is given twice', problem_mark=key_node.start_mark)
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep=deep)


def add_config(parser: StrictParser) -> None:
    """The flag of YAML files."""
    add = parser.add_argument_group('settings').add_argument
    add('-c', '--config', nargs='+', action='extend', metavar='FILE',
        help='YAML files of flags, or names of those in hparams; a later file wins over an earlier one, the command '
             'line over all')


def load_config(parser: StrictParser, *paths: str, wrong: Sequence[str] = ()) -> dict[str, Any]:
    """The flags in YAML files, converted as the command line would; those of later files win.

    A file's key `base` names another file, relative to its own folder, whose flags hold where it gives none itself.
    Ends the program through `parser.error` with one line that names every problem of the files, and what is `wrong`
    elsewhere.
    """
    actions = {name: action for name, action in parser_actions(parser).items() if name not in NOT_KEYS}
    values, problems = {}, list(wrong)
    for path in paths:
        for file, config in _lineage(parser, path):
            found = []
            for key, value in config.items():
                try:
                    values.update(_flag(parser, actions, key, value))
                except ValueError as problem:
                    found.append(str(problem))
            if found:
                problems.append(f'{file}: {"; ".join(found)}')
    if problems:
        parser.error('; '.join(dict.fromkeys(problems)))
    return values


def origins(
        parser: StrictParser,
        typed: argparse.Namespace,
        defaults: argparse.Namespace,
        args: argparse.Namespace,
) -> dict[str, str]:
    """Where each flag that isn't at its default was set: the YAML file, or the command line.

    Args:
        parser: The parser.
        typed: The flags of the command line alone, with `config`, the YAML files.
        defaults: Those of an empty command line.
        args: Those of files and command line.
    """
    found = {key: os.path.normpath(file)
             for path in typed.config or () for file, config in _lineage(parser, path) for key in config}
    found.update({name: COMMAND_LINE for name, value in vars(typed).items() if value != getattr(defaults, name, None)})
    return {name: found[name] for name, value in vars(args).items()
            if name not in NOT_KEYS and value != getattr(defaults, name)}


def _lineage(parser: StrictParser, path: str) -> Iterator[tuple[str, dict]]:
    """The files, with their keys, that `path` (or the settings of that name) builds on, and at last itself."""
    chain: list[tuple[str, dict]] = []
    next_path: str | None = find_settings(path)
    while next_path is not None:
        path = next_path
        if any(os.path.realpath(path) == os.path.realpath(file) for file, _ in chain):
            parser.error(f'{chain[-1][0]}: base leads back to {path}')
        config = _read(parser, path, named_by=chain[-1][0] if chain else None)
        base = config.pop('base', None)
        if base is not None and not isinstance(base, str):
            parser.error(f'{path}: base must be the name of a file, not {describe(base)}')
        chain.append((path, config))
        next_path = None if base is None else find_settings(base, folder=os.path.dirname(path))
    return reversed(chain)


def _read(parser: StrictParser, path: str, named_by: str | None = None) -> dict:
    try:
        with open(path, encoding='utf-8') as file:
            config = yaml.load(file, _UniqueKeyLoader)
    except FileNotFoundError as error:
        parser.error(f'{f"base of {named_by}: " if named_by else ""}{path}: {error.strerror}{hint(path)}')
    except IsADirectoryError:
        parser.error(f'{path} is a folder, -c takes YAML files; the folder of the data is --data-dir')
    except (*BAD_YAML, OSError) as error:
        parser.error(f'{f"base of {named_by}: " if named_by else ""}{path}: {error}')
    if not isinstance(config, dict):
        parser.error(f'{path} must hold "flag_name: value" lines, it holds {describe(config)}')
    return config


def _flag(parser: StrictParser, actions: dict, key: Any, value: Any) -> dict[str, Any]:
    """The flag that a key of a file sets; nothing for one that timm writes and that does no harm."""
    action = actions.get(key)
    if action is None:
        raise ValueError(_unknown(parser, key, actions))
    if isinstance(action, Refuse):
        _check_refused(action, value)
        return {}
    return {key: converted(parser, action, value)}


def _unknown(parser: StrictParser, key: Any, known: dict) -> str:
    close = nearest(str(key).replace('-', '_'), known)
    return f'unknown key {key!r}, {f"did you mean {close}?" if close else f"see {parser.prog} --help"}'


def _check_refused(action: Refuse, value: Any) -> None:
    """timm writes all its flags to args.yaml; refused is only what would change the training."""
    inert = action.reason == NO_NAFLEX and action.nargs != 0
    if value and not inert:
        raise ValueError(f'{action.dest} is not supported: {action.reason}')
