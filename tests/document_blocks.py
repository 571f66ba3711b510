"""The fenced blocks of the documents, the comments before them that say how they are tested, and their commands."""
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [
    *ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), ROOT / 'benchmarks' / 'README.md'])
COMMENT = re.compile(r'<!-- (needs|run with|tested by): (.*?) -->')
BLOCK = re.compile(r'^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
SEPARATOR = '\x1e'

# Commands are noted instead of being run: none is on the PATH, and what bash has itself is replaced.
RECORDER = r'''
PATH=/nowhere
note() { printf '%s\0' "$@" >> "$NOTES"; printf '\x1e\0' >> "$NOTES"; }
command_not_found_handle() { note "$@"; }
source() { note source "$@"; }
.() { note source "$@"; }
cd() { note cd "$@"; }
exec() { "$@"; }
kill() { note kill "$@"; }
set() { :; }
'''


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Path of its page.
        line: Where its fence opens.
        language: What the fence says.
        text: What is in it.
        needs: What the test machine may lack: then it is checked, and not run.
        extra: Flags that make each of its commands short enough to be run.
        tested_by: The file of tests that runs it.
    """
    page: str
    line: int
    language: str
    text: str
    needs: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    tested_by: str = ''

    @property
    def place(self) -> str:
        return f'{self.page}, line {self.line}'

    @property
    def is_run(self) -> bool:
        return not self.needs and not self.tested_by

    def commands(self, folder: Path) -> list[list[str]]:
        """The commands that bash would run, with variables and loops resolved."""
        notes = folder / 'notes'
        notes.write_bytes(b'')
        subprocess.run(
            ['/bin/bash', '-c', RECORDER + self.text], cwd=folder, env={'NOTES': str(notes)}, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=60)
        words = notes.read_text().split('\0')[:-1]
        found, command = [], []
        for word in words:
            if word == SEPARATOR:
                found.append(command)
                command = []
            else:
                command.append(word)
        return found


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in their order.

    Raises:
        ValueError: A comment before a block isn't one of the three.
    """
    text, found = (ROOT / page).read_text(encoding='utf-8'), []
    for match in BLOCK.finditer(text):
        comment, language, inside = match.groups()
        line = text[:match.start()].count('\n') + 1 + (comment is not None)
        found.append(Block(page, line, language, inside, **_options(comment, f'{page}, line {line}')))
    return found


def _options(comment: str | None, place: str) -> dict:
    if comment is None:
        return {}
    match = COMMENT.fullmatch(f'<!-- {comment} -->')
    if match is None:
        raise ValueError(f'{place}: <!-- {comment} --> before a block must be needs:, run with: or tested by:')
    kind, value = match.groups()
    if kind == 'needs':
        return {'needs': tuple(value.split(', '))}
    return {'extra': tuple(shlex.split(value))} if kind == 'run with' else {'tested_by': value}
