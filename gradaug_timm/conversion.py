"""Values from YAML files and Python, converted and checked like texts on the command line."""
import argparse
import copy
import os
from datetime import date
from numbers import Real
from typing import Any

from .cli import Keywords, OwnForm, StrictParser
from .files import first_unsafe
from .upstream import check_choice, convert_text


def converted(parser: StrictParser, action: argparse.Action, value: Any) -> Any:
    """Convert a value from YAML or Python as the command line would.

    Raises:
        ValueError: The value is not allowed; the message names the setting, and what is allowed.
    """
    try:
        return _converted(parser, action, value)
    except ValueError:
        several = isinstance(value, (list, tuple)) and action.nargs is not None
        if parser.stands_for_null(action, [*map(str, value)] if several else [str(value)]):
            return copy.copy(parser.nulls[action.dest])
        raise


def _converted(parser: StrictParser, action: argparse.Action, value: Any) -> Any:
    if value is None:
        raise ValueError(f'{action.dest} must be {_expected(action)}, not null')
    if isinstance(action, OwnForm):
        try:
            return action.stored(value)
        except ValueError as error:
            raise ValueError(f'{action.dest}: {error}') from None
    if isinstance(action, Keywords):
        return _plain_mapping(action, _require(action, value, isinstance(value, dict)))
    if action.nargs == '?' and isinstance(value, bool) and action.const is not None:
        return action.const if value else copy.copy(parser.nulls.get(action.dest))
    if action.nargs == 0:
        return _require(action, value, isinstance(value, bool))
    if action.nargs == '+' or isinstance(action.nargs, int):
        given = list(value) if isinstance(value, tuple) else value
        default = parser.get_default(action.dest)
        _require(action, given, isinstance(given, list) and bool(given or given == default))
        _require(action, given, action.nargs in ('+', len(given)))
        return [_converted_one(parser, action, item) for item in given]
    return _converted_one(parser, action, value)


def _plain_mapping(action: argparse.Action, value: dict) -> dict:
    """Return a copy of a mapping; ValueError if checkpoints and YAML files cannot hold a value of it."""
    fault = first_unsafe(value)
    if fault is not None:
        raise ValueError(f'{action.dest} holds {fault}; use strings, numbers, true, false, null, lists and mappings')
    return copy.deepcopy(value)


def _converted_one(parser: StrictParser, action: argparse.Action, value: Any) -> Any:
    value = os.fspath(value) if isinstance(value, os.PathLike) else str(value) if isinstance(value, date) else value
    _require(action, value, isinstance(value, (str, Real)) and not isinstance(value, bool))
    try:
        return check_choice(parser, action, convert_text(parser, action, str(value)))
    except argparse.ArgumentError as error:
        raise ValueError(f'{action.dest}: {error.message}') from None


def _require(action: argparse.Action, value: Any, holds: bool) -> Any:
    if not holds:
        raise ValueError(f'{action.dest} must be {_expected(action)}, not {describe(value)}')
    return value


def _expected(action: argparse.Action) -> str:
    if isinstance(action, Keywords):
        return 'a mapping of names to values'
    if action.nargs == 0:
        return 'true or false'
    if isinstance(action.nargs, int):
        return f'a list of {action.nargs} values'
    return 'a list of values' if action.nargs == '+' else 'one value'


def describe(value: Any) -> str:
    """Return a value and its kind, for an error."""
    return 'nothing' if value is None else f'{type(value).__name__} {value!r}'
