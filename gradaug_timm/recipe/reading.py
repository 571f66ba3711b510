"""Reading a recipe: a YAML file, the arguments in a checkpoint or in a log, or a command line."""
import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..files import read_checkpoint
from ..training.arguments.config import lineage
from ..training.arguments.shipped import find_settings
from ..training.arguments.timm_versions import parsed, span
from .flags import read_flags
from .shell import training_commands

CHECKPOINTS = ('.pth', '.pth.tar', '.pt', '.tar')
YAML = ('.yaml', '.yml', '.json')


@dataclass
class Recipe:
    """The keys of a recipe as they are written.

    Args:
        source: What they were read from, for the reader.
        values: Values by key.
        unknown: Flags of a command line that no version of timm has.
        processes: The number of processes that the recipe is for; None if it does not tell.
        notes: What the reader should know.
    """

    source: str
    values: dict[str, Any]
    unknown: dict[str, Any] = field(default_factory=dict)
    processes: int | None = None
    notes: list[str] = field(default_factory=list)


def read_recipe(words: Sequence[str], *, version: str | None = None) -> Recipe:
    """Read a recipe.

    Args:
        words: One file, or one text of a command line, or the words of a command line.
        version: The version of timm that a command line is for.

    Raises:
        OSError: The file cannot be read.
        ValueError: There is no recipe in it.
    """
    if len(words) > 1:
        return _command(' '.join(map(_quoted, words)), 'the command line', version)
    path = find_settings(words[0])
    if os.path.isdir(path):
        inside = os.path.join(path, 'args.yaml')
        if not os.path.isfile(inside):
            raise ValueError(f'{path} is a folder without args.yaml; give a file')
        path = inside
    if not os.path.exists(path):
        if len(words[0].split()) > 1 or words[0].startswith('-'):
            return _command(words[0], 'the command line', version)
        raise ValueError(f'{words[0]} does not exist; give a YAML file, a script, a checkpoint or a command line')
    return _file(path, version)


def _quoted(word: str) -> str:
    return f"'{word}'" if any(each in word for each in ' #;&|()') and "'" not in word else word


def _file(path: str, version: str | None) -> Recipe:
    if path.endswith(CHECKPOINTS):
        return _checkpoint(path)
    if path.endswith(YAML):
        return _mapping(path, {key: value for _, config in lineage(path) for key, value in config.items()})
    with open(path, encoding='utf-8', errors='replace') as file:
        return read_text(file.read(), path, version=version)


def read_text(text: str, source: str, *, version: str | None = None) -> Recipe:
    """Read a recipe from a text: YAML, a log with `Namespace(...)`, or shell commands.

    Raises:
        ValueError: There is no recipe in it.
    """
    if 'Namespace(' in text:
        return _mapping(source, _namespace(source, text))
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        content = None
    return _mapping(source, content) if isinstance(content, dict) else _command(text, source, version)


def _checkpoint(path: str) -> Recipe:
    try:
        state = read_checkpoint(path, checked=False)
    except ValueError as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    args = state.get('args') if isinstance(state, Mapping) else None
    if not args:
        raise ValueError(f'{path} holds no arguments of a training; give its args.yaml')
    return _mapping(path, dict(args if isinstance(args, Mapping) else vars(args)))


def _namespace(path: str, text: str) -> dict[str, Any]:
    """Return the arguments in the first `Namespace(...)` of a log."""
    start = text.index('Namespace(')
    text = text.replace('\\\n', '\n')
    for end in (index for index, char in enumerate(text) if char == ')' and index > start):
        try:
            call = ast.parse(text[start:end + 1], mode='eval').body
            return {each.arg: ast.literal_eval(each.value) for each in getattr(call, 'keywords', ()) if each.arg}
        except (SyntaxError, ValueError):
            continue
    raise ValueError(f'{path}: Namespace(...) is not complete, or holds more than plain values')


def _mapping(path: str, content: Mapping[str, Any]) -> Recipe:
    values = {str(key): value for key, value in content.items()}
    notes = []
    tracked = [key for key, value in values.items()
               if isinstance(value, dict) and 'value' in value and set(value) <= {'desc', 'value'}]
    if tracked:  # the form of the files of Weights & Biases
        values = {key: values[key].get('value') for key in tracked}
    world = values.get('world_size')
    return Recipe(path, values, processes=world if isinstance(world, int) and world > 0 else None, notes=notes)


def _command(text: str, source: str, version: str | None) -> Recipe:
    commands = training_commands(text)
    command = commands[0]
    given = read_flags(command.flags, version=version)
    last = version or span(given.values)[1]
    if parsed(last) < parsed('0.5.4'):
        given = read_flags(command.flags, version=last)
    notes = [f'the first of {len(commands)} training commands'] if len(commands) > 1 else []
    return Recipe(source, given.values, given.unknown, command.processes, notes)
