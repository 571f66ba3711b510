"""The flags of a training command by name, for any timm since 0.4 and for this package."""
import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..cli import Keywords, StrictParser, flag
from ..training.arguments import build_parser
from ..training.arguments.timm_versions import NAMES, parsed
from ..upstream import parser_flags

NUMBER = re.compile(r'-?[.\d].*')
FACTOR = 'validation_batch_size_multiplier'


@dataclass
class Given:
    """The flags of a command.

    Args:
        values: Texts, lists of texts, or True, by name.
        unknown: The flags that no version of timm has, with their values.
    """

    values: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)


def read_flags(words: Sequence[str], *, version: str | None = None) -> Given:
    """Return the flags of a command; abbreviations and `--batch_size` count, as unique as argparse wants them.

    Args:
        words: The command after the name of the script.
        version: The version of timm, which decides what `-vb` is; None: today's.
    """
    known = {name: action for name, action in parser_flags(build_parser()).items() if action.dest != argparse.SUPPRESS}
    if version is not None and parsed(version) < parsed('0.5.4'):
        known['-vb'] = known[flag(FACTOR)]
    given, rest = Given(), list(words)
    while rest:
        word = rest.pop(0)
        if word == '--':
            continue
        if not word.startswith('-') or NUMBER.fullmatch(word):
            given.values.setdefault('data_dir', word)
            continue
        name, equals, attached = word.partition('=')
        spelling = _spelling(name, known)
        if spelling is None and not equals and name[:2] in known and not name.startswith('--'):
            name, equals, attached, spelling = name[:2], '=', name[2:], name[:2]  # -b128
        values = [attached] if equals else []
        if spelling is None:
            given.unknown[name.lstrip('-').replace('-', '_')] = _value('*', values or _take(rest, None))
            continue
        action = known[spelling]
        if not equals:
            values = _take(rest, _most(action))
        if action.nargs == 0 and rest and rest[0].lower() in ('true', 'false'):  # in scripts that are like timm's
            given.values[action.dest] = rest.pop(0).lower() == 'true'
            continue
        if action.dest == 'config':  # timm takes one file, and what follows may be the folder of the data
            files = [value for place, value in enumerate(values) if not place or value.endswith('.yaml')]
            rest[:0] = [value for value in values if value not in files]
            values = [*given.values.get(action.dest, ()), *files]
        given.values[action.dest] = _value_of(action, spelling, values)
    return given


def _spelling(name: str, known: dict[str, argparse.Action]) -> str | None:
    for each in (name, name.replace('_', '-')):
        if each in known:
            return each
        starting = {known[other].dest: other for other in known if each.startswith('--') and other.startswith(each)}
        of_timm = {name: other for name, other in starting.items() if name in NAMES}
        for found in (of_timm, starting):
            if len(found) == 1:
                return next(iter(found.values()))
    return None


def _most(action: argparse.Action) -> int | None:
    """Return how many values a flag has at most; None: any number."""
    if isinstance(action.nargs, int):
        return action.nargs
    return None if action.nargs in ('+', '*') else 1


def _take(rest: list[str], most: int | None) -> list[str]:
    taken: list[str] = []
    while rest and (most is None or len(taken) < most) and (not rest[0].startswith('-') or NUMBER.fullmatch(rest[0])):
        taken.append(rest.pop(0))
    return taken


def _value_of(action: argparse.Action, spelling: str, values: list[str]) -> Any:
    if action.nargs == 0:
        return not (isinstance(action, argparse.BooleanOptionalAction) and spelling.startswith('--no-'))
    if isinstance(action, Keywords):
        taken = argparse.Namespace()
        action(StrictParser(), taken, [each for each in values if '=' in each], spelling)
        return getattr(taken, action.dest)
    if action.nargs == '?' and not values:
        return action.const
    return _value(action.nargs, values)


def _value(nargs: Any, values: list[str]) -> Any:
    if isinstance(nargs, int) or nargs == '+':
        return values
    return True if not values else values[0] if len(values) == 1 else values
