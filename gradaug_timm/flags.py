"""Settings that are declared once: a field of a dataclass is a flag, a YAML key and a row of the reference.

What follows from a declaration: the parser (`add_flags`), conversion and checks of values from YAML and Python, what
resuming compares and what makes two runs of a report different (`Role`), and when a setting has no effect (`Idle`).
"""
import argparse
import copy
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar, TypeVar

from .cli import Keywords, StrictParser, flag, import_named
from .upstream import check_choice, convert_text, parser_actions

Values = Mapping[str, Any]  # settings by name
METADATA = 'declaration'


class Role(Enum):
    """What a setting changes."""

    LEARNED = 'what is learned'
    OPTIMIZER = 'what is learned; the value is part of the optimizer\'s state'
    COMPARED = 'what is learned; resuming compares what is built from it'
    START = 'where training starts, or how far it goes'
    JUDGED = 'how the network is validated, and which name the run has in reports'
    PLACE = 'where data lie, and where and how fast things are computed'
    WRITTEN = 'what is written'

    @property
    def tells_apart(self) -> bool:
        """Whether runs that differ in such a setting are different methods."""
        return self not in (Role.PLACE, Role.WRITTEN)


@dataclass(frozen=True)
class Idle:
    """A setting has no effect where `holds`, for the `reason`, such as `without --amp`.

    Args:
        holds: Whether it has none, beside all other settings; these include `end_epoch`, `device` (its kind),
            `processes`, and `given`, the names of settings that aren't at their defaults.
        reason: The reason.
        other: The setting that it depends on, which the condition doesn't concern itself.
    """

    holds: Callable[[Values], Any]
    reason: str | Callable[[Values], str]
    other: str = ''


def needs(other: str) -> Idle:
    """No effect where `other` is off."""
    return Idle(lambda values: not values[other], f'without {flag(other)}', other)


def only_for(choice: str, *choices: str) -> Idle:
    """An effect for some of the values of `choice` only."""
    return Idle(
        lambda values: values[choice] not in choices,
        lambda values: f'with {flag(choice)} {values[choice]}, only with {" or ".join(choices)}')


def replaced_by(other: str) -> Idle:
    """No effect where `other` is given and on."""
    return Idle(lambda values: values[other] and other in values['given'], f'with {flag(other)}')


@dataclass(frozen=True)
class Declaration:
    """What `setting` was given; `options` are those of argparse's `add_argument`."""

    help: str
    flags: tuple[str, ...] = ()
    positional: bool = False
    role: Role | None = None
    idle: tuple[Idle, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def setting(
        default: Any,
        help: str,
        *,
        flags: tuple[str, ...] = (),
        positional: bool = False,
        role: Role | None = None,
        idle: Idle | tuple[Idle, ...] = (),
        **options,
) -> Any:
    """Declares a field that is a flag with a value.

    Args:
        default: The value where none is given; lists are given as tuples.
        help: What it is, for `--help` and the reference; it makes sense alone.
        flags: Further spellings on the command line; one that begins as the field's own name takes its place.
        positional: Whether it has no dashes on the command line.
        role: What it changes; None: as its group says.
        idle: When it has no effect, besides what its group says.
        **options: As for argparse's `add_argument`.
    """
    conditions = (idle,) if isinstance(idle, Idle) else idle
    declaration = Declaration(help, flags, positional, role, conditions, options)
    made = {'default_factory': lambda: dict(default)} if isinstance(default, dict) else {'default': default}
    return field(**made, metadata={METADATA: declaration})


def switch(help: str, **kwargs) -> Any:
    """Declares a field that is off, and on where its flag is given."""
    return setting(False, help, action='store_true', **kwargs)


def toggle(help: str, **kwargs) -> Any:
    """Declares a field with a flag that turns it on and one, `--no-...`, that turns it off; None without both."""
    return setting(None, help, action=argparse.BooleanOptionalAction, **kwargs)


def keywords(help: str, **kwargs) -> Any:
    """Declares a field of names and values, `KEY=VALUE ...`."""
    return setting({}, help, nargs='*', action=Keywords, metavar='KEY=VALUE', **kwargs)


def derived(default: Any) -> Any:
    """Declares a field that isn't a flag: it is filled in, and checkpoints keep it."""
    return field(default_factory=lambda: copy.copy(default))


Self = TypeVar('Self', bound='Settings')


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of groups of settings, and of what joins groups by inheriting from them.

    A group gives its title as `class Optimizer(Settings, title='optimizer')`, and with `role` and `idle` what holds for
    all of its fields. Values are converted and checked as on the command line; lists become tuples.

    Raises:
        ValueError: One or more values aren't allowed; says all of them.
    """

    title: ClassVar[str] = ''
    role: ClassVar[Role] = Role.LEARNED
    idle: ClassVar[tuple[Idle, ...]] = ()
    not_stored: ClassVar[tuple[str, ...]] = ('dry_run', 'origins')

    def __init_subclass__(cls, *, title: str = '', role: Role = Role.LEARNED, idle: tuple[Idle, ...] = ()):
        cls.title, cls.role, cls.idle = title, role, idle

    def __post_init__(self):
        problems = []
        parser = parser_of(type(self))
        actions = parser_actions(parser)
        for each in fields(self):
            value = getattr(self, each.name)
            try:
                if each.name in actions and not _is_default(each, value):
                    value = converted(parser, actions[each.name], value)
                object.__setattr__(self, each.name, tuple(value) if isinstance(value, list) else value)
            except ValueError as problem:
                problems.append(str(problem))
        if problems:
            raise ValueError(f'{type(self).__name__}: {"; ".join(problems)}')

    def values(self) -> dict[str, Any]:
        """All that files keep of them, by name, as YAML and argparse know it: lists for tuples."""
        return {each.name: _as_list(getattr(self, each.name)) for each in fields(self)
                if each.name not in self.not_stored}

    def namespace(self) -> argparse.Namespace:
        """`values` as timm's checkpoints keep them."""
        return argparse.Namespace(**self.values())

    @classmethod
    def of(cls: type[Self], values: Values) -> Self:
        """Those of the `values` that are settings of this class."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})


@dataclass(frozen=True)
class Declared:
    """A field as it was declared, with what its group says."""

    name: str
    default: Any
    title: str
    role: Role
    idle: tuple[Idle, ...]
    declaration: Declaration

    @property
    def flags(self) -> tuple[str, ...]:
        """The spellings on the command line."""
        given = self.declaration.flags
        return given if f'--{self.name}' in given else (*(each for each in given if not each.startswith('--')),
                                                        flag(self.name),
                                                        *(each for each in given if each.startswith('--')))


def declared(cls: type[Settings]) -> dict[str, Declared]:
    """The flags of a class of settings by their names, group by group."""
    return _declared(cls)  # type: ignore[arg-type]  # mypy takes the hash of a frozen dataclass for that of its class


@functools.cache
def _declared(cls: type[Settings]) -> dict[str, Declared]:
    by_name = {each.name: each for each in fields(cls)}
    found: dict[str, Declared] = {}
    groups = [each for each in cls.__mro__ if issubclass(each, Settings)]
    for group in groups:
        for name in inspect.get_annotations(group):
            declaration = by_name[name].metadata.get(METADATA) if name in by_name else None
            if declaration is not None and name not in found:
                role = declaration.role or group.role
                idle = (*(each for each in group.idle if each.other != name), *declaration.idle)
                found[name] = Declared(name, _default(by_name[name]), group.title, role, idle, declaration)
    return found


def add_flags(parser: argparse.ArgumentParser, cls: type[Settings]) -> None:
    """Adds the flags of a class of settings to a parser, in groups."""
    groups: dict[str, Any] = {}
    for each in declared(cls).values():
        options = dict(each.declaration.options, help=each.declaration.help)
        default = _as_list(each.default)
        if each.declaration.positional:
            parser.add_argument(each.name, default=default, **options)
            continue
        if each.title not in groups:
            groups[each.title] = parser.add_argument_group(each.title)
        groups[each.title].add_argument(*each.flags, dest=each.name, default=default, **options)


class SettingsParser(StrictParser):
    """A parser whose flags end in an object of settings.

    Args:
        settings: The class of the settings.
        resolve: Fills in settings that follow from others, and checks them together; raises ValueError.
        **kwargs: As for `StrictParser`.
    """

    def __init__(self, settings: type[Settings], resolve: Callable[[Any], Any], **kwargs):
        super().__init__(**kwargs)
        self.settings, self.resolve = settings, resolve

    def parse_settings(self, argv: list[str] | None = None) -> Any:
        """Return the settings of a command line; end the program with one line where they are wrong."""
        args = self.parse_args(argv)
        try:
            import_named(getattr(args, 'device_modules', None) or ())
            return self.resolve(self.settings.of(vars(args)))
        except ValueError as error:
            self.error(str(error))


def parser_of(cls: type[Settings]) -> StrictParser:
    """A parser of the class's flags alone."""
    return _parser_of(cls)  # type: ignore[arg-type]  # as above


@functools.cache
def _parser_of(cls: type[Settings]) -> StrictParser:
    parser = StrictParser(prog=cls.__name__)
    add_flags(parser, cls)
    return parser


def idle_settings(cls: type[Settings], values: Values, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings that change nothing, each with the reason.

    Args:
        cls: The class of the settings.
        values: As for `Idle`.
        given: Names of those that are at another value than the default.
    """
    known = declared(cls)
    for name in given:
        conditions = known[name].idle if name in known else ()
        condition = next((each for each in conditions if each.holds(values)), None)
        if condition is not None:
            yield name, condition.reason if isinstance(condition.reason, str) else condition.reason(values)


def names_of(cls: type[Settings], *roles: Role) -> tuple[str, ...]:
    """The settings that have one of the roles; those that aren't flags change what is learned."""
    flags = declared(cls)
    others = [each.name for each in fields(cls) if each.name not in (*flags, *cls.not_stored)]
    return (*(name for name, each in flags.items() if each.role in roles), *(others if Role.LEARNED in roles else ()))


def converted(parser: StrictParser, action: argparse.Action, value: Any) -> Any:
    """A value from YAML or Python as the command line would give it.

    Raises:
        ValueError: It isn't allowed; says the name of the setting and what is.
    """
    if value is None:
        if parser.get_default(action.dest) is not None:
            raise ValueError(f'{action.dest} must be {_expected(action)}, not null')
        return None
    if isinstance(action, Keywords):
        return _require(action, value, isinstance(value, dict))
    if action.nargs == 0:
        return _require(action, value, isinstance(value, bool))
    if action.nargs == '+' or isinstance(action.nargs, int):
        given = list(value) if isinstance(value, tuple) else value
        default = parser.get_default(action.dest)
        _require(action, given, isinstance(given, list) and bool(given or given == default))
        _require(action, given, action.nargs in ('+', len(given)))
        return [_converted_one(parser, action, item) for item in given]
    return _converted_one(parser, action, value)


def _converted_one(parser: StrictParser, action: argparse.Action, value: Any) -> Any:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    _require(action, value, isinstance(value, (str, int, float)) and not isinstance(value, bool))
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
    """A value and its kind, for an error."""
    return 'nothing' if value is None else f'{type(value).__name__} {value!r}'


def _default(each) -> Any:
    return each.default_factory() if each.default is MISSING else each.default


def _is_default(each, value: Any) -> bool:
    default = _default(each)
    return (type(value) is type(default) and value == default) or (
        isinstance(default, tuple) and isinstance(value, list) and value == list(default))


def _as_list(value: Any) -> Any:
    return [_as_list(each) for each in value] if isinstance(value, tuple) else value
