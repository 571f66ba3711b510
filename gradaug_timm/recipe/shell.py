"""Training commands in a text: shell lines, scripts, and pieces of documents."""
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

TRAINING = re.compile(r'(.*/)?(\w*train\w*|main)\.py|(.*/)?\w*distributed_train\w*\.sh|(.*/)?gradaug-train')
SCRIPT = re.compile(r'(.*/)?[\w.-]+\.(py|sh)|(.*/)?gradaug-[\w-]+')
ASSIGNMENT = re.compile(r'(\w+)=(.*)', re.DOTALL)
PROCESSES = re.compile(r'--?(nproc[-_]per[-_]node|num[-_]processes|np|ntasks)')
NODES = re.compile(r'--(nnodes|num[-_]machines)')
OPERATORS = re.compile(r'[;&|()]+')


@dataclass(frozen=True)
class ShellCommand:
    """A training command.

    Args:
        script: The script that trains; empty if the text has flags only.
        flags: What follows the script.
        processes: The number of processes that the command starts; None if it does not tell.
    """

    script: str
    flags: tuple[str, ...]
    processes: int | None = None


def training_commands(text: str) -> list[ShellCommand]:
    """Return the training commands in a text, with variables replaced that the text sets.

    Raises:
        ValueError: The text has none, or quotes are open.
    """
    variables: dict[str, str] = {}
    found, others = [], []
    for line in logical_lines(text):
        for words in _commands(line):
            while words and (words[0] in ('export', 'let', 'local') or ASSIGNMENT.fullmatch(words[0])):
                assigned = ASSIGNMENT.fullmatch(words.pop(0))
                if assigned:
                    variables[assigned[1]] = _replaced(assigned[2], variables)
            command = _training_command([_replaced(word, variables) for word in words])
            if command is not None:
                found.append(command)
            others += [word for word in words if SCRIPT.fullmatch(word)]
    if found:
        return found
    raise ValueError(
        f'{others[0]} is no training command; give one of train.py, or only its flags' if others
        else 'there is no training command; give one such as "python train.py --model resnet50 ...", or only its flags')


def logical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text without comments and prompts, and with continued lines joined."""
    current = ''
    for line in text.splitlines():
        bare = re.sub(r'(^|\s)#.*$', '', line)
        ended = bare != line
        bare = re.sub(r'^\s*[$>]\s+', '', bare) if not current else bare
        continued = re.fullmatch(r'(.*)\\\s*', bare)
        current += f'{continued[1] if continued else bare} '
        if ended or not continued:
            yield current.strip()
            current = ''
    yield current.strip()


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command in a line, without redirections."""
    line = re.sub(r'\$\(\(.*?\)\)', '0', line)
    line = re.sub(r'\s(\d|&)?>{1,2}\s*(&\d|[^\s;&|]+)', ' ', line)
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|()')
        lexer.whitespace_split, lexer.commenters = True, ''
        words = list(lexer)
    except ValueError as error:
        if TRAINING.search(line):
            raise ValueError(f'{line[:80]!r} has an open quote') from error
        words = []  # prose around the commands
    current: list[str] = []
    for word in words:
        if OPERATORS.fullmatch(word):
            yield current
            current = []
        else:
            current.append(word)
    yield current


def _replaced(word: str, variables: dict[str, str]) -> str:
    return re.sub(r'\$\{?(\w+)\}?', lambda name: variables.get(name[1], name[0]), word)


def _training_command(words: list[str]) -> ShellCommand | None:
    if words and words[0].startswith('-'):
        return ShellCommand('', tuple(words))
    index = next((index for index, word in enumerate(words) if TRAINING.fullmatch(word)), None)
    if index is None and len(words) > 1 and re.fullmatch(r'(.*/)?python[\d.]*', words[0]) and words[1].startswith('$'):
        index = 1  # a script whose name the text does not tell
    if index is None:
        return None
    script, before, after = words[index], words[:index], words[index + 1:]
    if script.endswith('.sh'):
        return ShellCommand(script, tuple(after[1:]), _number(after[0]) if after else None)
    processes, nodes = _option(before, PROCESSES), _option(before, NODES)
    return ShellCommand(os.path.basename(script), tuple(after), processes and processes * (nodes or 1))


def _option(words: list[str], name: re.Pattern) -> int | None:
    for word, following in zip(words, [*words[1:], '']):
        flag, equals, value = word.partition('=')
        if name.fullmatch(flag):
            return _number(value if equals else following)
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
