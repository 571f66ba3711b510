"""Training commands in a text: shell lines, scripts, and pieces of documents."""
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .variables import QUOTED, expanded, replaced

TRAINING = re.compile(r'(.*/)?([\w-]*train[\w-]*|main)\.py|(.*/)?\w*distributed_train\w*\.sh|(.*/)?gradaug-train')
SCRIPT = re.compile(r'(.*/)?[\w.-]+\.(py|sh)|(.*/)?gradaug-[\w-]+')
ASSIGNMENT = re.compile(r'(\w+)=(.*)', re.DOTALL)
ARRAY = re.compile(r'\b(\w+)=\(([^()"]*)\)')
COMMENT = re.compile(r'(^|\s)#.*$', re.MULTILINE)
COMPUTED = re.compile(r'\$\(\([^()]*\)\)|\$\([^()]*\)|`[^`]*`')  # by the shell, from what the text does not tell
OTHER_THAN_WORDS = re.compile(r'[\s;&|()<>`$\'"]')
ARGUMENTS = re.compile(r'\$\{?[@*].*')  # of the script that holds the command
PROCESSES = re.compile(r'--?(nproc[-_]per[-_]node|num[-_]processes|np|ntasks)')
NODES = re.compile(r'--(nnodes|num[-_]machines)')
OPERATORS = re.compile(r'[;&|()]+')
FLAG = re.compile(r'--?[a-zA-Z].*', re.DOTALL)


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

    @property
    def has_flags(self) -> bool:
        """Whether there is a flag; mere mentions of a script have none."""
        return any(map(FLAG.fullmatch, self.flags))


def training_commands(text: str) -> list[ShellCommand]:
    """Return the training commands in a text, with variables replaced that the text sets.

    Raises:
        ValueError: The text has none, or quotes are open.
    """
    variables: dict[str, str] = {}
    found, others, problem = [], [], ''
    for line in logical_lines(ARRAY.sub(_as_variable, text)):
        try:
            commands = [*_commands(line)]
        except ValueError:  # an apostrophe of prose, or an error
            problem = problem or f'{line[:80]!r} has an open quote' * bool(TRAINING.search(line))
            continue
        for words in commands:
            numbers = words[:1] == ['let']
            while words and (words[0] in ('export', 'let', 'local') or ASSIGNMENT.fullmatch(words[0])):
                assigned = ASSIGNMENT.fullmatch(words.pop(0))
                if assigned:
                    variables[assigned[1]] = replaced(f'$[{assigned[2]}]' if numbers else assigned[2], variables)
            words = [each for word in words for each in expanded(word, variables)]
            command = _training_command(words)
            if command is not None:
                found.append(command)
            others += filter(_is_other_script, words)
    complete = [command for command in found if command.script and command.has_flags]
    bare = [command for command in found if not command.script or len(text.splitlines()) == 1]
    if complete or bare:
        return complete or bare
    raise ValueError(problem or _none_of(others))


def _is_other_script(word: str) -> bool:
    return bool(SCRIPT.fullmatch(word)) and not TRAINING.fullmatch(word)


def _none_of(scripts: Sequence[str]) -> str:
    """Return the error of a text that has no training command, but perhaps other scripts."""
    if scripts:
        return f'{scripts[0]} is no training command; give one of train.py, or only its flags'
    return 'there is no training command; give one such as "python train.py --model resnet50 ...", or only its flags'


def logical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text without comments and prompts, and with continued lines joined."""
    current = ''
    for line in text.splitlines():
        bare = COMMENT.sub('', line)
        ended = bare != line
        bare = re.sub(r'^\s*[$>]\s+', '', bare) if not current else bare
        continued = re.fullmatch(r'(.*)\\\s*', bare)
        current += f'{continued[1] if continued else bare} '
        if ended or not continued:
            yield current.strip()
            current = ''
    yield current.strip()


def command_of(words: Sequence[str]) -> ShellCommand:
    """Return the training command that the words of a command line are.

    Raises:
        ValueError: They are none.
    """
    command = _training_command(words)
    if command is None:
        raise ValueError(_none_of([*filter(_is_other_script, words)]))
    return command


def _training_command(words: Sequence[str]) -> ShellCommand | None:
    if words and FLAG.fullmatch(words[0]):
        return ShellCommand('', tuple(words))
    index = next((index for index, word in enumerate(words) if TRAINING.fullmatch(word)), None)
    if index is None and len(words) > 1 and re.fullmatch(r'(.*/)?python[\d.]*', words[0]) and words[1].startswith('$'):
        index = 1  # a script whose name the text does not tell
    if index is None:
        return None
    script, before = words[index], words[:index]
    after = tuple(word for word in words[index + 1:] if not ARGUMENTS.fullmatch(word))
    if script.endswith('.sh'):
        number, flags = after[:1], after[1:]
        flags = flags[1:] if flags and TRAINING.fullmatch(flags[0]) else flags
        return ShellCommand(script, flags, _number(number[0]) if number else None)
    processes, nodes = _option(before, PROCESSES), _option(before, NODES)
    return ShellCommand(os.path.basename(script), after, processes and processes * (nodes or 1))


def _as_variable(array: re.Match) -> str:
    """Return an array of a script as a variable of one line."""
    return f'{array[1]}="{" ".join(COMMENT.sub("", array[2]).split())}"'


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command in a line, without redirections.

    Raises:
        ValueError: A quote is open.
    """
    before = ''
    while before != line:  # inner parentheses first
        before, line = line, COMPUTED.sub(_as_word, line)
    line = re.sub(r'"[^"]*"', lambda quoted: quoted[0].replace('$', QUOTED), line)
    line = re.sub(r'\s(\d|&)?>{1,2}\s*(&\d|[^\s;&|]+)', ' ', line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|()')
    lexer.whitespace_split, lexer.commenters = True, ''
    current: list[str] = []
    for word in lexer:
        if ' ' in word and TRAINING.search(word):  # of bash -c, or of a variable
            yield from _commands(word)
        if OPERATORS.fullmatch(word):
            yield current
            current = []
        else:
            current.append(word)
    yield current


def _as_word(part: re.Match) -> str:
    """Return what the shell would compute as one word; a command in the backquotes of a document without them."""
    text = part[0].strip('`')
    return text if text != part[0] and TRAINING.search(text) else f'$[{OTHER_THAN_WORDS.sub("", text)}]'


def _option(words: Sequence[str], name: re.Pattern) -> int | None:
    for word, following in zip(words, [*words[1:], '']):
        flag, equals, value = word.partition('=')
        if name.fullmatch(flag):
            return _number(value if equals else following)
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
