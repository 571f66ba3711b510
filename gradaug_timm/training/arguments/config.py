"""YAML files of flags: strict, and all problems are reported at once."""
import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import yaml

from ...cli import Refuse, StrictParser
from ...conversion import converted, describe
from ...hints import renamed
from ...upstream import parser_actions
from .older_timm import note, older, rejection
from .run import NO_NAFLEX
from .shipped import find_settings, hint

NOT_KEYS = ('config', 'dry_run', 'help')
COMMAND_LINE = 'command line'
# Errors of yaml if a value does not match its tag (a month 13, `!!int ''`), or lists are nested endlessly.
BAD_YAML = (yaml.YAMLError, AttributeError, LookupError, RecursionError, ValueError)


class _Loader(yaml.SafeLoader):
    """A safe loader that rejects duplicate keys, of which YAML would take the last, and reads tuples as lists."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(
                    problem=f'key {key.value!r} is given twice', problem_mark=key.start_mark)
            seen.add((key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None)
        return node


_Loader.add_constructor('tag:yaml.org,2002:python/tuple', _Loader.construct_yaml_seq)


def add_config(parser: StrictParser) -> None:
    """Add the flag for YAML files to a parser."""
    add = parser.add_argument_group('settings').add_argument
    add('-c', '--config', nargs='+', action='extend', metavar='FILE',
        help='YAML files of flags, or names of files in hparams; later files override earlier ones, and the command '
             'line overrides all files')


def load_config(parser: StrictParser, *paths: str, wrong: Sequence[str] = ()) -> dict[str, Any]:
    """Return the flags in YAML files, converted like the command line; later files override earlier ones.

    The key `base` of a file names another file, relative to the folder of the first, whose flags it overrides. If there
    are problems, the program ends through `parser.error` with one line that names all of them, including those in
    `wrong`.
    """
    values, problems = {}, list(wrong)
    for path in paths:
        for file, config in _lineage(parser, path):
            settings, notes, found = settings_in(parser, config)
            values.update(settings)
            if found:
                problems.append(f'{file}: {"; ".join(found)}')
            if notes:
                parser.notes[f'{file} has keys of an older timm: {"; ".join(notes)}'] = None
    if problems:
        parser.error('; '.join(dict.fromkeys(problems)))
    return values


def settings_in(parser: StrictParser, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the settings that the keys of a file give, notes on keys of older versions of timm, and problems."""
    actions = {name: action for name, action in parser_actions(parser).items() if name not in NOT_KEYS}
    values: dict[str, Any] = {}
    translated: dict[str, Any] = {}  # these win, because timm wrote `amp: false` next to `native_amp: true`
    notes, problems = [], []
    for key, value in config.items():
        try:
            found = older(key, value, config)
            if found is None:
                values.update(_flag(parser, actions, key, value))
            elif found.rejected:
                problems.append(rejection(key, value, found))
            else:
                for name, each in found.settings.items():
                    translated.update(_flag(parser, actions, name, each))
                notes.append(note(key, value, found))
        except ValueError as problem:
            problems.append(str(problem))
    return {**values, **translated}, notes, problems


def origins(
        parser: StrictParser,
        typed: argparse.Namespace,
        defaults: argparse.Namespace,
        args: argparse.Namespace,
) -> dict[str, str]:
    """Return where each flag that differs from the default was set: a YAML file, or the command line.

    Args:
        parser: The parser.
        typed: The flags of the command line alone, with the YAML files as `config`.
        defaults: The flags of an empty command line.
        args: The flags of files and command line together.
    """
    found = {name: os.path.normpath(file)
             for path in typed.config or () for file, config in _lineage(parser, path)
             for name in settings_in(parser, config)[0]}
    found.update({name: COMMAND_LINE for name, value in vars(typed).items() if value != getattr(defaults, name, None)})
    return {name: found.get(name, COMMAND_LINE) for name, value in vars(args).items()
            if name not in NOT_KEYS and value != getattr(defaults, name)}


def _lineage(parser: StrictParser, path: str) -> Iterator[tuple[str, dict]]:
    try:
        return lineage(path)
    except ValueError as error:
        parser.error(str(error))


def lineage(path: str) -> Iterator[tuple[str, dict]]:
    """Return the files that `path` (or the settings of that name) builds on, and `path` last, each with its keys.

    Raises:
        ValueError: A file does not exist, or is no mapping of names to values.
    """
    chain: list[tuple[str, dict]] = []
    next_path: str | None = find_settings(path)
    while next_path is not None:
        path = next_path
        if any(os.path.realpath(path) == os.path.realpath(file) for file, _ in chain):
            raise ValueError(f'{chain[-1][0]}: base leads back to {path}')
        config = _read(path, named_by=chain[-1][0] if chain else None)
        base = config.pop('base', None)
        if base is not None and not isinstance(base, str):
            raise ValueError(f'{path}: base must be the name of a file, not {describe(base)}')
        chain.append((path, config))
        next_path = None if base is None else find_settings(base, folder=os.path.dirname(path))
    return reversed(chain)


def read_yaml(source: str | IO[str]) -> Any:
    """Return the content of YAML, a text or a file; one of BAD_YAML is raised if it cannot be read."""
    return yaml.load(source, _Loader)


def _read(path: str, named_by: str | None = None) -> dict:
    try:
        with open(path, encoding='utf-8') as file:
            config = read_yaml(file)
    except FileNotFoundError:
        raise ValueError(
            f'{f"base of {named_by}: " if named_by else ""}{path} does not exist{hint(path)}') from None
    except IsADirectoryError:
        raise ValueError(
            f'{path} is a folder, but -c takes YAML files; give the folder of the data with --data-dir') from None
    except (*BAD_YAML, OSError) as error:
        raise ValueError(f'{f"base of {named_by}: " if named_by else ""}{path}: {error}') from error
    if not isinstance(config, dict):
        raise ValueError(f'{path} must have lines "flag_name: value", not {describe(config)}')
    return config


def _flag(parser: StrictParser, actions: dict, key: Any, value: Any) -> dict[str, Any]:
    """Return the flag that a key of a file sets; nothing for unsupported flags of timm that change nothing."""
    action = actions.get(key)
    if action is None:
        raise ValueError(_unknown(parser, key, actions))
    if isinstance(action, Refuse):
        check_refused(action, value)
        return {}
    return {key: converted(parser, action, value)}


def _unknown(parser: StrictParser, key: Any, known: dict) -> str:
    shown = [name for name, action in known.items() if action.help is not argparse.SUPPRESS]
    close = renamed(str(key).lstrip('-').replace('-', '_'), shown)
    return f'unknown key {key!r}, {f"did you mean {close}?" if close else f"see {parser.prog} --help"}'


def check_refused(action: Refuse, value: Any) -> None:
    """Reject an unsupported flag of timm if it would change the training; timm writes all flags to args.yaml."""
    inert = action.reason == NO_NAFLEX and action.nargs != 0
    if value and not inert:
        raise ValueError(f'{action.dest} is not supported: {action.reason}')
