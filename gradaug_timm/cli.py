"""Strict command lines: unknown flags are rejected, and errors are one line."""
import argparse
import copy
import importlib
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import timm
import torch
from timm.utils import ParseKwargs, setup_default_logging

from .hints import nearest, renamed
from .started import installed_command
from .upstream import HookedParser, compile_modes, parser_flags
from .version import __version__

OTHER_DASHES = '\u2010\u2011\u2012\u2013\u2014\u2212'  # which text processors write for -
CONTROL = re.compile(r'\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0e-\x1f\x7f]')  # colours and other codes of terminals
VERSIONS = f'gradaug_timm {__version__}, timm {timm.__version__}, torch {torch.__version__}'


def flag(name: str) -> str:
    """Return the spelling of a setting on the command line."""
    return f'--{name.replace("_", "-")}'


def one_line(error: BaseException, limit: int | None = 200, *, kind: bool = False) -> str:
    """Return an error's message in one line, or the name of the error's type if the message is empty.

    Args:
        error: The error.
        limit: Number of characters after which the line is cut; None: never.
        kind: Whether to begin with the name of the error's type.
    """
    parts, name = CONTROL.sub('', str(error)).split(), type(error).__name__
    return ' '.join([f'{name}:', *parts] if kind and parts else parts or [name])[:limit]


def printable(text: str) -> str:
    """Return a text that terminals and fonts can show: names of files that are not in UTF-8 are escaped."""
    return text.encode('utf-8', 'backslashreplace').decode()


def cause(error: BaseException) -> str:
    """Return the whole message, in one line, of the error that an error was raised from first of all.

    torch's exporters put instructions before it, and repeat it with the lines of code.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error, None, kind=True)


def table(rows: Sequence[Sequence[str]], *, figures: bool = False) -> list[str]:
    """Return the lines of a table with aligned columns, two spaces apart.

    Args:
        rows: The rows, all with the same number of cells.
        figures: Whether to align all columns but the first to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ['  '.join(
        cell.rjust(width) if figures and index else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


QUIET = ('matplotlib.font_manager', 'timm.utils.checkpoint_saver')  # tell of a font cache; list all files at every save


def log_to_terminal() -> None:
    """Set up logging as timm does, unless the caller has done so; other libraries then report warnings only."""
    if not logging.root.handlers:
        setup_default_logging()
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def started_as() -> str:
    """Return the beginning of the command that started this program."""
    spec = getattr(sys.modules.get('__main__'), '__spec__', None)
    if installed_command():
        return str(installed_command())
    return f'python -m {spec.name.removesuffix(".__main__")}' if spec is not None else f'python {sys.argv[0]}'


def ranged(
        kind: type[int] | type[float],
        *,
        minimum: float = -math.inf,
        maximum: float = math.inf,
        above: float = -math.inf,
        below: float = math.inf,
) -> Callable[[str], float]:
    """Return an argument's `type`: a finite number within closed and open bounds.

    Args:
        kind: Whole numbers or any numbers.
        minimum: Smallest allowed number.
        maximum: Largest allowed number.
        above: Allowed numbers are larger than this.
        below: Allowed numbers are smaller than this.
    """
    bounds = [
        f'{words} {limit:g}'
        for words, limit in (('at least', minimum), ('above', above), ('at most', maximum), ('below', below))
        if math.isfinite(limit)
    ]
    wanted = ' '.join(['a whole number' if kind is int else 'a number', ' and '.join(bounds)]).strip()

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'{text!r} must be {wanted}') from None
        if not (math.isfinite(value) and minimum <= value <= maximum and above < value < below):
            raise argparse.ArgumentTypeError(f'{text!r} must be {wanted}')
        return value

    return convert


def import_named(modules: Iterable[str]) -> None:
    """Import the modules that --device-modules names.

    Raises:
        ValueError: One can't be imported.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except (ImportError, TypeError) as error:  # TypeError: a relative name
            raise ValueError(f'--device-modules {name} cannot be imported: {error}') from error


def file_to_write(*endings: str) -> Callable[[str], str]:
    """Return an argument's `type`: the path of a file with one of the endings, in an existing folder."""
    def convert(path: str) -> str:
        folder = os.path.dirname(path) or '.'
        if endings and not path.endswith(endings):
            raise argparse.ArgumentTypeError(f'{path!r} must end in {", ".join(endings)}, which selects the format')
        if not os.path.isdir(folder):
            raise argparse.ArgumentTypeError(f'{path!r} must be in a folder that exists; {folder} does not exist')
        if os.path.isdir(path):
            raise argparse.ArgumentTypeError(f'{path!r} must be a file, not a folder')
        return path
    return convert


def compile_backend(text: str) -> str:
    """Return the name of a backend of torch.compile; reject other names."""
    return _one_of(text, 'a backend of torch.compile', torch.compiler.list_backends(None))


def compile_mode(text: str) -> str:
    """Return the name of a mode of torch.compile; reject other names."""
    return _one_of(text, 'a mode of torch.compile', compile_modes())


def _one_of(text: str, what: str, allowed: Sequence[str]) -> str:
    if text in allowed:
        return text
    close = nearest(text, allowed)
    hint = f', did you mean {close}?' if close else ''
    raise argparse.ArgumentTypeError(f'{text!r} must be {what} ({", ".join(allowed)}){hint}')


class Keywords(ParseKwargs):
    """An action that stores `key=value ...` as a dict of literals."""

    def __call__(self, parser, namespace, values, option_string=None):
        for text in values:
            if '=' not in text:
                parser.error(f'argument {option_string}: {text!r} must be written key=value')
        super().__call__(parser, namespace, values, option_string)


class NamedKeywords(Keywords):
    """An action that stores `name key=value ...` as a dict of literals by name; repeated flags add names."""

    def __call__(self, parser, namespace, values, option_string=None):
        name, *pairs = values
        if '=' in name:
            parser.error(f'argument {option_string}: a name must come before {name}')
        given = argparse.Namespace()
        super().__call__(parser, given, pairs, option_string)
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), name: getattr(given, self.dest)})


class OwnForm(argparse.Action):
    """An action whose values have a form of their own, on the command line and in YAML and Python."""

    def stored(self, value: Any) -> Any:
        """Return a value from the command line, YAML or Python as it is stored, or raise ValueError."""
        raise NotImplementedError

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            setattr(namespace, self.dest, self.stored(values))
        except ValueError as error:
            parser.error(f'argument {option_string}: {error}')


class Refuse(argparse.Action):
    """A flag of timm that is not supported: it ends the program with the reason."""

    def __init__(self, *args, reason: str, **kwargs):
        super().__init__(*args, help=argparse.SUPPRESS, **kwargs)
        self.reason = reason

    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f'{option_string} is not supported: {self.reason}')


def add_refused(parser: argparse.ArgumentParser, refused: Iterable[tuple[Sequence[str], Any, str]]) -> None:
    """Add flags of timm that are not supported: spellings, number of values, and the reason."""
    for flags, nargs, reason in refused:
        for each in flags:
            parser.add_argument(each, action=Refuse, nargs=nargs, reason=reason, default=argparse.SUPPRESS)


class OlderFlag(argparse.Action):
    """A flag of an older version of timm, which is kept aside with its value."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, help=argparse.SUPPRESS, default=argparse.SUPPRESS, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        parser.older[self.dest] = True if self.nargs == 0 else values


class StrictParser(HookedParser):
    """A parser without abbreviations; errors are one line and name the nearest known flag.

    Args:
        prog: Name of the program, unless it was started by an installed command.
    """

    def __init__(self, *args, prog: str | None = None, **kwargs):
        super().__init__(*args, prog=installed_command() or prog, allow_abbrev=False, **kwargs)
        self.nulls: dict[str, Any] = {}  # by name, what `none` stands for
        self.older: dict[str, Any] = {}  # given flags of older versions of timm
        self.notes: dict[str, None] = {}  # lines for the log, in order
        self.add_argument(
            '--version', action='version', dest=argparse.SUPPRESS, version=VERSIONS, help='show the versions and exit')

    def parse_args(self, args=None, namespace=None):
        parsed, problems = self.collect(args, namespace)
        if problems:
            self.error('; '.join(problems))
        return parsed

    def collect(self, args=None, namespace=None) -> tuple[argparse.Namespace, list[str]]:
        """Return the arguments, and one line for each unknown flag or wrong value; wrong values become defaults."""
        parsed, unknown, problems = self.collect_known(args, namespace)
        return parsed, [*problems, *([self._describe(unknown)] if unknown else [])]

    def collect_known(self, args=None, namespace=None) -> tuple[argparse.Namespace, list[str], list[str]]:
        """Return the arguments, the words of unknown flags, and one line for each wrong value."""
        words = sys.argv[1:] if args is None else list(args)
        self._problems = [f'{word} begins with {word[0]}, which is not the dash of a flag; write -' for word in words
                          if word[:1] in OTHER_DASHES and word]
        parsed, unknown = self.parse_known_args(words, namespace)
        return parsed, unknown, self._problems

    def convert_flag(self, action, texts):
        try:
            return super().convert_flag(action, texts)
        except argparse.ArgumentError as error:
            if self.stands_for_null(action, texts):
                return copy.copy(self.nulls[action.dest])
            self._problems.append(str(error))
            return action.default

    def stands_for_null(self, action: argparse.Action, texts: Sequence[str]) -> bool:
        """Return whether texts that are no value of a flag are `none` or `null`, and mean something for it."""
        return action.dest in self.nulls and [text.lower() for text in texts] in (['none'], ['null'])

    def check_flag(self, action, value):
        try:
            super().check_flag(action, value)
        except argparse.ArgumentError as error:
            close = nearest(str(value), map(str, action.choices))
            hint = f', did you mean {close}?' if close else ''
            raise argparse.ArgumentError(action, f'{error.message}{hint}') from None

    def error(self, message: str) -> NoReturn:
        """Print `prog: error: message` as one line and exit with code 2."""
        message = message.replace('ignored explicit argument', 'takes no value, not')
        self.exit(2, f'{self.prog}: error: {" ".join(message.split())}\n')

    def _describe(self, unknown: list[str]) -> str:
        flags = [text.split('=')[0] for text in unknown if text.startswith('-')]
        if not flags:
            return f'unexpected argument {", ".join(map(repr, unknown))}'
        return '; '.join(self._describe_flag(flag) for flag in flags)

    def _describe_flag(self, flag: str) -> str:
        known = parser_flags(self)
        switch = f'--{flag.removeprefix("--no-")}'
        if flag.startswith('--no-') and switch in known and known[switch].nargs == 0:
            return f'unknown flag {flag}: {switch} is off unless it is given'
        close = renamed(flag, [each for each, action in known.items() if action.help is not argparse.SUPPRESS])
        hint = f'did you mean {close}?' if close else f'see {self.prog} --help'
        return f'unknown flag {flag}, {hint}'
