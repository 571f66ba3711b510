"""JSON files whose lists are larger than the memory that their text would need."""
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TextIO

CHUNK = 2 ** 22  # characters
GZIP = b'\x1f\x8b'  # bytes that a compressed file begins with
SPACE = re.compile(r'[ \t\n\r]*')


def load_json(path: str, hook: Callable[[dict], Any]) -> Any:
    """Return the content of a JSON file as `json.load` does, without holding the whole text.

    Args:
        path: The file.
        hook: Changes each object as soon as it is read, as `object_hook` of `json.load`.

    Raises:
        ValueError: The file is not JSON; the message says where.
    """
    with open(path, 'rb') as begin:
        start = begin.read(4)
    if start.startswith(GZIP):
        raise ValueError('it is compressed by gzip; unpack it')
    encoding = json.detect_encoding(start)  # as json.loads does; PowerShell writes UTF-16
    with open(path, encoding=encoding) as file:
        reader = _Reader(file, json.JSONDecoder(object_hook=hook))
        content = reader.members() if reader.next() == '{' else reader.value()
        if reader.next():
            raise ValueError(f'extra data at character {reader.position}')
        return content


class _Reader:
    """A reader of a JSON text, of which it holds only the part around the current position."""

    def __init__(self, file: TextIO, decoder: json.JSONDecoder):
        self._file, self._decoder = file, decoder
        self._text, self._at, self._dropped, self._ended = '', 0, 0, False

    @property
    def position(self) -> int:
        return self._dropped + self._at

    def next(self) -> str:
        """Return the next character that is not space, without passing it; '' at the end."""
        while True:
            self._at = SPACE.match(self._text, self._at).end()
            if self._at < len(self._text) or not self._more():
                return self._text[self._at:self._at + 1]

    def members(self) -> dict[str, Any]:
        """Read an object, and lists in it element by element."""
        content = {}
        for _ in self._elements('{', '}'):
            if self.next() != '"':
                raise self._expected('a name in quotes')
            name = self.value()
            self._pass(':')
            content[name] = self._list() if self.next() == '[' else self.value()
        return content

    def value(self) -> Any:
        """Read a value."""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise ValueError(f'{error.msg} at character {self._dropped + error.pos}') from None
                continue
            if end < len(self._text) or not self._more():  # a number may go on
                self._at = end
                return value

    def _list(self) -> list:
        return [self.value() for _ in self._elements('[', ']')]

    def _elements(self, begin: str, end: str) -> Iterator[None]:
        """Yield before each element, which must then be read."""
        self._pass(begin)
        if self.next() != end:
            yield
            while self.next() == ',':
                self._at += 1
                yield
        self._pass(end)

    def _pass(self, character: str) -> None:
        if self.next() != character:
            raise self._expected(repr(character))
        self._at += 1

    def _expected(self, what: str) -> ValueError:
        return ValueError(f'expected {what} at character {self.position}')

    def _more(self) -> bool:
        """Read more of the file, at least as much as is held; return False at its end."""
        held = self._text[self._at:]
        text = '' if self._ended else self._file.read(max(CHUNK, len(held)))
        self._ended = not text
        if text:
            self._dropped += self._at
            self._text, self._at = held + text, 0
        return bool(text)
