"""Registries: objects that are added by a decorator and found by name."""
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

from .hints import nearest

Key = TypeVar('Key')
Value = TypeVar('Value')


class Registry(Mapping[Key, Value], Generic[Key, Value]):
    """The registered objects of one kind, by name (or by class); names are unique.

    Args:
        kind: The kind of the objects, for errors, such as 'transformation'.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._values: dict[Key, Value] = {}
        self._places: dict[Key, str] = {}

    def add(self, key: Key, value: Value, *, by: object = None) -> None:
        """Register a value.

        Args:
            key: The name.
            value: The value.
            by: The decorated function or class, if it is not the value itself.

        Raises:
            ValueError: The name is already registered.
        """
        if key in self._values:
            raise ValueError(
                f'{self.kind} {_shown(key)} is registered already, by {self._places[key]}; choose another name')
        self._values[key], self._places[key] = value, _place(value if by is None else by)

    def remove(self, key: Key) -> None:
        """Remove a value, so that another can be registered under the name."""
        del self._values[key], self._places[key]

    def find(self, key: Key) -> Value:
        """Return the value that is registered under a name.

        Raises:
            ValueError: The name is unknown; the message shows the nearest name and all names.
        """
        if key not in self._values:
            close = nearest(str(key), map(str, self._values))
            hint = f', did you mean {close}?' if close else ''
            known = ', '.join(map(str, self)) or 'none'
            raise ValueError(f'unknown {self.kind} {_shown(key)}{hint} (registered: {known})')
        return self._values[key]

    def __getitem__(self, key: Key) -> Value:
        return self._values[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def import_modules(package: str, folders: Iterable[str]) -> None:
    """Import all modules of a package, which register their objects; a new module needs no line elsewhere.

    Args:
        package: Full name of the package.
        folders: The `__path__` of the package.
    """
    for module in pkgutil.iter_modules(folders):
        import_module(f'{package}.{module.name}')


def _shown(key: object) -> str:
    return key.__name__ if isinstance(key, type) else repr(key)


def _place(value: object) -> str:
    return f'{value.__module__}.{value.__qualname__}'  # type: ignore[attr-defined]
