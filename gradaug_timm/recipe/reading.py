"""Reading a recipe: a YAML file, the arguments in a checkpoint or in a log, or a command line."""
import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..evaluation.contents import read_contents
from ..training.arguments.config import BAD_YAML, lineage, read_yaml
from ..training.arguments.shipped import find_settings
from ..training.arguments.timm_versions import parsed, span
from .flags import read_flags
from .shell import ShellCommand, command_of, training_commands

CHECKPOINTS = ('.pth', '.pth.tar', '.pt', '.tar', '.safetensors')
YAML = ('.yaml', '.yml', '.json')
NAMESPACE = 'Namespace('
LONGEST = 100_000  # characters of a `Namespace(...)`


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
        return _command([command_of(words)], 'the command line', version)
    path = find_settings(words[0])
    if os.path.isdir(path):
        inside = os.path.join(path, 'args.yaml')
        if not os.path.isfile(inside):
            raise ValueError(f'{path} is a folder without args.yaml; give a file')
        path = inside
    if not os.path.exists(path):
        if len(words[0].split()) > 1 or words[0].startswith('-'):
            return _command(training_commands(words[0]), 'the command line', version)
        raise ValueError(f'{words[0]} does not exist; give a YAML file, a script, a checkpoint or a command line')
    return _file(path, version)


def _file(path: str, version: str | None) -> Recipe:
    if path.endswith(CHECKPOINTS):
        return _checkpoint(path)
    if path.endswith(YAML):
        return _mapping(path, _file_values(path))
    with open(path, encoding='utf-8', errors='replace') as file:
        return read_text(file.read(), path, version=version)


def _file_values(path: str) -> dict[str, Any]:
    return {key: value for _, config in lineage(path) for key, value in config.items()}


def read_text(text: str, source: str, *, version: str | None = None) -> Recipe:
    """Read a recipe from a text: YAML, a log with `Namespace(...)`, or shell commands.

    Raises:
        ValueError: There is no recipe in it.
    """
    arguments = _namespace(text)
    if arguments is not None:
        return _mapping(source, arguments)
    try:
        return _command(training_commands(text), source, version)
    except ValueError:
        content = _yaml(text)
        if isinstance(content, dict):
            return _mapping(source, content)
        if NAMESPACE in text:
            raise ValueError(f'{source}: {NAMESPACE}...) is not complete, or holds more than plain values') from None
        raise


def _yaml(text: str) -> Any:
    try:
        return read_yaml(text)
    except BAD_YAML:
        return None


def _checkpoint(path: str) -> Recipe:
    settings = read_contents(path).settings
    if not settings:
        raise ValueError(f'{path} holds no arguments of a training; give its args.yaml')
    return _mapping(path, settings)


def _namespace(text: str) -> dict[str, Any] | None:
    """Return the arguments in the first `Namespace(...)` of a log; None if it has none that is complete."""
    text = text.replace('\\\n', '\n')
    text = text[text.find(NAMESPACE):][:LONGEST] if NAMESPACE in text else ''
    for end in (index for index, char in enumerate(text, 1) if char == ')'):
        try:
            call = ast.parse(text[:end], mode='eval').body
        except (SyntaxError, ValueError):
            continue
        return {each.arg: _plain(each.value) for each in getattr(call, 'keywords', ()) if each.arg}
    return None


def _plain(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:  # such as device(type='cuda')
        return ast.unparse(value)


def _mapping(path: str, content: Mapping[str, Any]) -> Recipe:
    values = {str(key): value for key, value in content.items()}
    tracked = [key for key, value in values.items() if key != '_wandb'
               and isinstance(value, dict) and 'value' in value and set(value) <= {'desc', 'value'}]
    if tracked:  # the form of the files of Weights & Biases
        values = {key: values[key]['value'] for key in tracked}
    world = values.get('world_size')
    return Recipe(path, values, processes=world if isinstance(world, int) and world > 0 else None)


def _command(commands: Sequence[ShellCommand], source: str, version: str | None) -> Recipe:
    command = commands[0]
    given = read_flags(command.flags, version=version)
    last = version or span(given.values)[1]
    if parsed(last) < parsed('0.5.4'):
        given = read_flags(command.flags, version=last)
    notes = [f'the first of {len(commands)} training commands'] * (len(commands) > 1)
    files = given.values.pop('config', [])
    values: dict[str, Any] = {}
    for file in files:
        try:
            values.update(_file_values(file))
        except ValueError as error:
            notes.append(f'-c is not read: {error}')
    return Recipe(source, {**values, **given.values}, given.unknown, command.processes, notes)
