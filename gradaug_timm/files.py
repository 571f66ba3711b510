"""Files that are written whole or not at all, and readable reasons why a file cannot be read."""
import argparse
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import torch

from .cli import one_line

PARTIAL = '.partial'  # suffix of a file until it is complete
DAMAGES = (  # what zipfile raises for damaged archives
    EOFError, NotImplementedError, OSError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)


@contextmanager
def written_aside(path: str | os.PathLike) -> Iterator[str]:
    """Yield the name of a file to write, and move it to `path` at the end of the context, unless that raises.

    The content is flushed to the disk before the move, so that a crash leaves either the old file or the new one.

    Raises:
        OSError: The file cannot be written; the message names `path`.
    """
    partial = f'{path}{PARTIAL}'
    try:
        yield partial
        flush(partial)
        os.replace(partial, path)
        flush(os.path.dirname(os.path.abspath(path)))
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch wraps what a full disk raises
        if not isinstance(cause, OSError):
            raise
        raise OSError(f'{path} cannot be written: {cause.strerror or cause}') from error
    finally:
        if os.path.lexists(partial):
            os.remove(partial)


@contextmanager
def replacing(path: str | os.PathLike, *, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file that replaces `path` once it is complete."""
    with written_aside(path) as partial:
        with open(partial, 'w', newline=newline, encoding='utf-8', errors='backslashreplace') as file:
            yield file


def duplicate(source: str, path: str) -> None:
    """Make `path` a second name of `source`, replacing a file there; `source` must never be written to again."""
    if os.path.exists(path) and os.path.samefile(source, path):
        return
    partial = f'{path}{PARTIAL}'
    if os.path.lexists(partial):
        os.remove(partial)
    with written_aside(path) as partial:
        try:
            os.link(source, partial)
        except OSError:  # not all file systems support links
            with open(source, 'rb') as whole, open(partial, 'wb') as copy:
                while chunk := whole.read(2 ** 24):
                    copy.write(chunk)


def flush(path: str) -> None:
    """Flush a file, or the names in a folder, to the disk; Windows flushes folders itself."""
    if not hasattr(os, 'O_DIRECTORY') and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDONLY if hasattr(os, 'O_DIRECTORY') else os.O_RDWR)  # Windows: only if writable
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(state: dict, path: str) -> None:
    """Write a checkpoint that `read_checkpoint` can read.

    Raises:
        OSError: The file cannot be written; the message names `path`. An earlier file there is kept.
    """
    with written_aside(path) as partial, open(partial, 'wb') as file:
        torch.save(state, file)


def read_checkpoint(path: str, *, checked: bool = True) -> Any:
    """Return the content of a checkpoint on the CPU, memory-mapped; no code from the file is run.

    Args:
        path: The file.
        checked: Whether to verify the checksums in the file, which reads all of it.

    Raises:
        OSError: The file does not exist.
        ValueError: The file is damaged, or holds more than tensors and plain values; the message does not name it.
    """
    if checked:
        check_whole(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter('ignore')  # about what torch takes for a pickle in a broken file
            return torch.load(path, map_location='cpu', weights_only=True, mmap=_is_archive(path))
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError on a broken file
        raise ValueError(unreadable(error)) from error


def first_unsafe(value: Any) -> str | None:
    """Return type and text of the first value that a safely read checkpoint cannot hold; None if there is none.

    Subclasses count: `numpy.float64` is a float, but is stored as an object of NumPy.
    """
    if type(value) in (dict, OrderedDict, Counter):
        return next(filter(None, map(first_unsafe, (*value, *value.values()))), None)
    if type(value) in (list, tuple):
        return next(filter(None, map(first_unsafe, value)), None)
    plain = type(value) in (str, int, float, bool, type(None)) or isinstance(value, torch.Tensor)
    return None if plain else f'{type(value).__name__} {value!r}'[:80]


def check_whole(path: str) -> None:
    """Verify the checksums in a file of weights, if it has any.

    Raises:
        OSError: The file does not exist.
        ValueError: A checksum is wrong.
    """
    with open(path, 'rb') as file:
        try:
            if not zipfile.is_zipfile(file):
                return
            with zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
        except DAMAGES as error:
            raise ValueError(f'it is damaged ({one_line(error, None)})') from error
    if broken is not None:
        raise ValueError(f'it is damaged: the checksum of {broken} is wrong')


def _is_archive(path: str) -> bool:
    """Return whether a file is an archive, which torch can map, and not in the format before torch 1.6."""
    with open(path, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def unreadable(error: Exception) -> str:
    """Return in one line why torch did not load a checkpoint with `weights_only`."""
    if not isinstance(error, pickle.UnpicklingError):
        return f'it is damaged or no checkpoint ({one_line(error, kind=True)})'
    blocked = re.search(r'GLOBAL (\S+)', str(error))
    if blocked:
        return f'it holds {blocked[1]}, more than tensors and plain values, and is not loaded for safety'
    return 'it is damaged or no checkpoint'  # torch's own words are advice to load it unsafely
