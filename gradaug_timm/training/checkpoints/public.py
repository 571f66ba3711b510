"""Settings as others may see them: without the paths of this machine, which may hold private names."""
import os
import re
from collections.abc import Mapping
from typing import Any

LOCAL = 'local files'  # stands in place of a path
# Absolute, of a home folder, of a parent folder, of Windows, or of a file on a server; anywhere in a text.
PATH = re.compile(r'''(?:^|(?<=[\s=,:;'"(\[{/]))(?:~|\.{1,2}(?=[/\\])|[A-Za-z]:[/\\]|\\\\|file:|/)''')


def without_paths(value: Any) -> Any:
    """Return a setting, in which texts that are, or contain, a path of this machine are replaced.

    Args:
        value: A plain value; mappings and sequences are searched.
    """
    if isinstance(value, dict):
        return {without_paths(key): without_paths(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(without_paths, value))
    return LOCAL if isinstance(value, str) and _is_path(value) else value


def path_free(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that neither are nor contain a path of this machine, by name."""
    return {name: value for name, value in values.items() if without_paths(value) == value}


def public_dataset(name: str) -> str:
    """Return the name of a data set, 'KIND/NAME', without a path: of `hfds//data/cats` only `hfds, local files`."""
    kind, slash, rest = name.partition('/')
    if not slash:
        return without_paths(name)
    return f'{kind}, {LOCAL}' if kind and (_is_path(rest) or rest.count('/') > 1) else without_paths(name)


def _is_path(text: str) -> bool:
    return bool(PATH.search(text)) or (any(mark in text for mark in '/\\') and os.path.exists(text))
