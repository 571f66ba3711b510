"""YAML files of flags: strict, and all their problems told at once."""
import argparse
from typing import Any

import yaml

from ...cli import Keywords, Refuse, StrictParser, nearest
from .run import NO_NAFLEX

NOT_KEYS = ('config', 'help')


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


def load_config(parser: StrictParser, path: str) -> dict[str, Any]:
    """The flags in the YAML file `path`, converted as the command line would.

    Ends the program through `parser.error` with one line that names every problem of the file.
    """
    actions = {action.dest: action for action in parser._actions if action.dest not in NOT_KEYS}
    values, problems = {}, []
    for key, value in _read(parser, path).items():
        action = actions.get(key)
        try:
            if action is None:
                raise ValueError(_unknown(key, actions))
            if isinstance(action, Refuse):
                _check_refused(action, value)
            else:
                values[key] = _convert(parser, action, value)
        except ValueError as problem:
            problems.append(str(problem))
    if problems:
        parser.error(f'{path}: {"; ".join(problems)}')
    return values


def _read(parser: StrictParser, path: str) -> dict:
    try:
        with open(path, encoding='utf-8') as file:
            config = yaml.load(file, _UniqueKeyLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f'{path}: {error}')
    if not isinstance(config, dict):
        parser.error(f'{path} must hold "flag_name: value" lines, it holds {_describe(config)}')
    return config


def _unknown(key: Any, known: dict) -> str:
    close = nearest(str(key).replace('-', '_'), known)
    return f'unknown key {key!r}, {f"did you mean {close}?" if close else "see train.py --help"}'


def _check_refused(action: Refuse, value: Any) -> None:
    """timm writes all its flags to args.yaml; refused is only what would change the training."""
    inert = action.reason == NO_NAFLEX and action.nargs != 0
    if value and not inert:
        raise ValueError(f'{action.dest} is not supported: {action.reason}')


def _convert(parser: StrictParser, action: argparse.Action, value: Any) -> Any:
    if value is None:
        if parser.get_default(action.dest) is not None:
            raise ValueError(f'{action.dest} must be {_expected(action)}, not null')
        return None
    if isinstance(action, Keywords):
        return _require(action, value, isinstance(value, dict))
    if action.nargs == 0:
        return _require(action, value, isinstance(value, bool))
    if action.nargs == '+' or isinstance(action.nargs, int):
        _require(action, value, isinstance(value, list) and bool(value or value == parser.get_default(action.dest)))
        _require(action, value, action.nargs in ('+', len(value)))
        return [_convert_one(parser, action, item) for item in value]
    return _convert_one(parser, action, value)


def _convert_one(parser: StrictParser, action: argparse.Action, value: Any) -> Any:
    _require(action, value, isinstance(value, (str, int, float)) and not isinstance(value, bool))
    try:
        converted = parser._get_value(action, str(value))
        parser._check_value(action, converted)
    except argparse.ArgumentError as error:
        raise ValueError(f'{action.dest}: {error.message}') from None
    return converted


def _require(action: argparse.Action, value: Any, holds: bool) -> Any:
    if not holds:
        raise ValueError(f'{action.dest} must be {_expected(action)}, not {_describe(value)}')
    return value


def _expected(action: argparse.Action) -> str:
    if isinstance(action, Keywords):
        return 'a mapping of names to values'
    if action.nargs == 0:
        return 'true or false'
    if isinstance(action.nargs, int):
        return f'a list of {action.nargs} values'
    return 'a list of values' if action.nargs == '+' else 'one value'


def _describe(value: Any) -> str:
    return 'nothing' if value is None else f'{type(value).__name__} {value!r}'
