"""Settings that are declared once: a field of a dataclass is a flag, a YAML key and a row of the reference.

A declaration determines the parser (`add_flags`), the conversion and checks of values from YAML and Python, which
settings resuming compares and which make two runs of a report different (`Role`), and when a setting has no effect
(`Idle`).
"""
import argparse
import copy
import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar, TypeVar

from .cli import Keywords, StrictParser, flag, import_named
from .conversion import converted
from .upstream import parser_actions

Values = Mapping[str, Any]  # settings by name
_logger = logging.getLogger(__name__)

METADATA = 'declaration'
NOT_GIVEN = object()


class Role(Enum):
    """The effect of a setting: what a run with another value would do differently."""

    LEARNED = 'what is learned'
    OPTIMIZER = 'what is learned; the value is part of the optimizer\'s state'
    COMPARED = 'what is learned; resuming compares the parts that are built from it'
    START = 'where training starts, or how far it goes'
    JUDGED = 'how the network is validated, and which name the run has in reports'
    PLACE = 'where data lie, and where and how fast things are computed'
    WRITTEN = 'what is written'


@dataclass(frozen=True)
class Idle:
    """A condition under which a setting has no effect, and the reason, such as `without --amp`.

    Args:
        holds: Returns whether the setting has no effect, given the values of all settings. These also include
            `end_epoch`, `device` (its kind), `processes`, and `given`, the names of settings that differ from their
            defaults.
        reason: The reason.
        other: The setting that the condition depends on; the condition does not apply to that setting itself.
    """

    holds: Callable[[Values], Any]
    reason: str | Callable[[Values], str]
    other: str = ''


def needs(other: str) -> Idle:
    """Return the condition of a setting that has no effect if `other` is off."""
    return Idle(lambda values: not values[other], f'without {flag(other)}', other)


def only_for(choice: str, *choices: str) -> Idle:
    """Return the condition of a setting that has an effect only for some values of `choice`."""
    return Idle(
        lambda values: values[choice] not in choices,
        lambda values: f'with {flag(choice)} {values[choice]}, only with {" or ".join(choices)}')


def replaced_by(other: str) -> Idle:
    """Return the condition of a setting that has no effect if `other` is given and on."""
    return Idle(lambda values: values[other] and other in values['given'], f'with {flag(other)}')


@dataclass(frozen=True)
class Declaration:
    """The arguments of `setting`; `options` are for argparse's `add_argument`."""

    help: str
    flags: tuple[str, ...] = ()
    positional: bool = False
    role: Role | None = None
    idle: tuple[Idle, ...] = ()
    null: Any = NOT_GIVEN
    options: Mapping[str, Any] = field(default_factory=dict)


def setting(
        default: Any,
        help: str,
        *,
        flags: tuple[str, ...] = (),
        positional: bool = False,
        role: Role | None = None,
        idle: Idle | tuple[Idle, ...] = (),
        null: Any = NOT_GIVEN,
        **options,
) -> Any:
    """Declare a field that is a flag with a value.

    Args:
        default: The default; tuples stand for lists.
        help: Text for `--help` and the reference; it must make sense alone.
        flags: Further spellings on the command line; `--` and the field's exact name, as in `--local_rank`, replaces
            the spelling with dashes.
        positional: Whether the argument has no dashes on the command line.
        role: What the setting changes; None: the role of the group.
        idle: When the setting has no effect, in addition to the conditions of the group.
        null: The value that null in YAML, None in Python and `none` on the command line stand for; by default, a
            default that is itself nothing (None, off, 0, empty). For other settings, null is rejected.
        **options: Options of argparse's `add_argument`.
    """
    conditions = (idle,) if isinstance(idle, Idle) else idle
    declaration = Declaration(help, flags, positional, role, conditions, null, options)
    made = {'default_factory': lambda: dict(default)} if isinstance(default, dict) else {'default': default}
    return field(**made, metadata={METADATA: declaration})


def switch(help: str, **kwargs) -> Any:
    """Declare a field that is off unless the flag is given."""
    return setting(False, help, action='store_true', **kwargs)


def toggle(help: str, **kwargs) -> Any:
    """Declare a field that is on with `--NAME`, off with `--no-NAME`, and None with neither."""
    return setting(None, help, action=argparse.BooleanOptionalAction, **kwargs)


def keywords(help: str, **kwargs) -> Any:
    """Declare a field of names and values, `KEY=VALUE ...`."""
    return setting({}, help, nargs='*', action=Keywords, metavar='KEY=VALUE', **kwargs)


def derived(default: Any) -> Any:
    """Declare a field that is not a flag: it is filled in later and is stored in checkpoints."""
    return field(default_factory=lambda: copy.copy(default))


Self = TypeVar('Self', bound='Settings')


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of groups of settings, and of classes that inherit from several groups.

    A group gives its title as `class Optimizer(Settings, title='optimizer')`; `role` and `idle` there apply to all of
    the group's fields. Values are converted and checked as on the command line; lists become tuples.

    Raises:
        ValueError: One or more values are not allowed; the message names all of them.
    """

    title: ClassVar[str] = ''
    role: ClassVar[Role] = Role.LEARNED
    idle: ClassVar[tuple[Idle, ...]] = ()
    not_stored: ClassVar[tuple[str, ...]] = ('dry_run', 'notes', 'origins')

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
        """Return the values that files store, by name, in the form of YAML and argparse: lists instead of tuples."""
        return {each.name: _as_list(getattr(self, each.name)) for each in fields(self)
                if each.name not in self.not_stored}

    def namespace(self) -> argparse.Namespace:
        """Return `values` in the form of timm's checkpoints."""
        return argparse.Namespace(**self.values())

    @classmethod
    def of(cls: type[Self], values: Values) -> Self:
        """Return an instance from those of the `values` that are settings of this class."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})


@dataclass(frozen=True)
class Declared:
    """A declared field, with the title, role and conditions of the field's group."""

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


def _null_of(each: Declared) -> Any:
    """Return what null stands for, or NOT_GIVEN."""
    if each.declaration.null is not NOT_GIVEN:
        return each.declaration.null
    return NOT_GIVEN if each.default else each.default


def declared(cls: type[Settings]) -> dict[str, Declared]:
    """Return the flags of a class of settings by name, group by group."""
    return _declared(cls)  # type: ignore[arg-type]  # mypy confuses the hash of a frozen dataclass with the hash of its class


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


def add_flags(parser: StrictParser, cls: type[Settings]) -> None:
    """Add the flags of a class of settings to a parser, in groups."""
    groups: dict[str, Any] = {}
    for each in declared(cls).values():
        options = dict(each.declaration.options, help=each.declaration.help)
        default = _as_list(each.default)
        null = _null_of(each)
        if null is not NOT_GIVEN:
            parser.nulls[each.name] = _as_list(null)
        if each.declaration.positional:
            parser.add_argument(each.name, default=default, **options)
            continue
        if each.title not in groups:
            groups[each.title] = parser.add_argument_group(each.title)
        groups[each.title].add_argument(*each.flags, dest=each.name, default=default, **options)


class SettingsParser(StrictParser):
    """A parser of the flags of a class of settings, which turns them into an object.

    Args:
        settings: The class of the settings.
        resolve: Fills in settings that follow from others and checks all of them together; raises ValueError.
        before: Adds flags that --help shows before those of the settings.
        **kwargs: As for `StrictParser`.
    """

    def __init__(
            self,
            settings: type[Settings],
            resolve: Callable[[Any], Any],
            *,
            before: Callable[[StrictParser], None] = lambda parser: None,
            **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings, self.resolve = settings, resolve
        before(self)
        add_flags(self, settings)

    def parse_settings(self, argv: list[str] | None = None) -> Any:
        """Return the settings of a command line, and warn of those without effect.

        The program ends with one line where settings are wrong.
        """
        args = self.parse_args(argv)
        self.complete(args)
        try:
            import_named(getattr(args, 'device_modules', None) or ())
            settings = self.settings.of(vars(args))
            given, settings = changed(settings), self.resolve(settings)
        except ValueError as error:
            self.error(str(error))
        line = without_effect(settings, given)
        if line:
            _logger.warning(line)
        return settings

    def complete(self, args: argparse.Namespace) -> None:
        """Change parsed values before they become settings; nothing by default."""


def as_given(name: str, value: Any) -> str:
    """Return a setting as it is given on the command line."""
    if isinstance(value, dict):
        text = ' '.join(f'{key}={each}' for key, each in value.items())
    else:
        text = '' if value is True else ' '.join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f'{flag(name)} {text}'.rstrip()


def without_effect(settings: Settings, given: Iterable[str]) -> str:
    """Return one line that names the given settings without effect; empty if there are none."""
    names = dict.fromkeys(given)
    values = {**vars(settings), 'given': names}
    idle = [f'{as_given(name, values[name])} ({reason})'
            for name, reason in idle_settings(type(settings), values, names)]
    return f'Without effect: {", ".join(idle)}.' if idle else ''


def parser_of(cls: type[Settings]) -> StrictParser:
    """Return a parser of a class's flags alone."""
    return _parser_of(cls)  # type: ignore[arg-type]  # as above


@functools.cache
def _parser_of(cls: type[Settings]) -> StrictParser:
    parser = StrictParser(prog=cls.__name__)
    add_flags(parser, cls)
    return parser


def idle_settings(cls: type[Settings], values: Values, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings that have no effect, each with the reason.

    Args:
        cls: The class of the settings.
        values: The values of all settings, as for `Idle`.
        given: Names of the settings that differ from their defaults.
    """
    known = declared(cls)
    for name in given:
        conditions = known[name].idle if name in known else ()
        condition = next((each for each in conditions if each.holds(values)), None)
        if condition is not None:
            yield name, condition.reason if isinstance(condition.reason, str) else condition.reason(values)


def changed(settings: Settings) -> list[str]:
    """Return the names of the settings that differ from their defaults."""
    return [name for name, each in declared(type(settings)).items() if getattr(settings, name) != each.default]


def names_of(cls: type[Settings], *roles: Role) -> tuple[str, ...]:
    """Return the settings that have one of the roles; settings that are not flags have the role LEARNED."""
    flags = declared(cls)
    others = [each.name for each in fields(cls) if each.name not in (*flags, *cls.not_stored)]
    return (*(name for name, each in flags.items() if each.role in roles), *(others if Role.LEARNED in roles else ()))


def _default(each) -> Any:
    return each.default_factory() if each.default is MISSING else each.default


def _is_default(each, value: Any) -> bool:
    default = _default(each)
    return (type(value) is type(default) and value == default) or (
        isinstance(default, tuple) and isinstance(value, list) and value == list(default))


def _as_list(value: Any) -> Any:
    return [_as_list(each) for each in value] if isinstance(value, tuple) else value
