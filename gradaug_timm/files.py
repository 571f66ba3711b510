"""Files that are written whole or not at all, and what is wrong with those that can't be read."""
import argparse
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import torch

from .cli import one_line

PARTIAL = '.partial'  # what a file is called until it is whole
DAMAGES = (  # what zipfile makes of damaged archives
    EOFError, NotImplementedError, OSError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)


@contextmanager
def written_aside(path: str | os.PathLike) -> Iterator[str]:
    """The name of a file to write, which takes the place of `path` at the end of the context, unless that raises.

    What was written is on the disk before it takes that place, so that a crash leaves the old file or the new one.

    Raises:
        OSError: It can't be written; the message names `path`.
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
        raise OSError(f'{path} can\'t be written: {cause.strerror or cause}') from error
    finally:
        if os.path.lexists(partial):
            os.remove(partial)


@contextmanager
def replacing(path: str | os.PathLike, *, newline: str | None = None) -> Iterator[TextIO]:
    """A text file that takes the place of `path` once it is complete."""
    with written_aside(path) as partial:
        with open(partial, 'w', newline=newline, encoding='utf-8', errors='backslashreplace') as file:
            yield file


def duplicate(source: str, path: str) -> None:
    """Gives the content of `source`, which is never written to again, the name `path` as well, whatever was there."""
    if os.path.exists(path) and os.path.samefile(source, path):
        return
    partial = f'{path}{PARTIAL}'
    if os.path.lexists(partial):
        os.remove(partial)
    with written_aside(path) as partial:
        try:
            os.link(source, partial)
        except OSError:  # not all file systems have links
            with open(source, 'rb') as whole, open(partial, 'wb') as copy:
                while chunk := whole.read(2 ** 24):
                    copy.write(chunk)


def flush(path: str) -> None:
    """Wait until a file is on the disk, or the names in a folder; Windows writes those itself."""
    if not hasattr(os, 'O_DIRECTORY') and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDONLY if hasattr(os, 'O_DIRECTORY') else os.O_RDWR)  # Windows: to write only
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(state: dict, path: str) -> None:
    """Writes what `read_checkpoint` reads.

    Raises:
        OSError: It can't be written; the message names `path`. What was there before is there still.
    """
    with written_aside(path) as partial, open(partial, 'wb') as file:
        torch.save(state, file)


def read_checkpoint(path: str, *, checked: bool = True) -> Any:
    """The content of a checkpoint on the CPU, memory-mapped; runs no code from it.

    Args:
        path: The file.
        checked: Compare it with the checksums in it, which reads all of it.

    Raises:
        OSError: There is no such file.
        ValueError: It is damaged, or holds more than tensors and plain values; the message doesn't name it.
    """
    if checked:
        check_whole(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter('ignore')  # of what torch takes for a pickle in a broken file
            return torch.load(path, map_location='cpu', weights_only=True, mmap=_is_archive(path))
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError on a broken file
        raise ValueError(unreadable(error)) from error


def check_whole(path: str) -> None:
    """Compares a file of weights with the checksums in it, if it has any.

    Raises:
        OSError: There is no such file.
        ValueError: They differ.
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
    """Whether torch takes the file for an archive, not for the format before torch 1.6, which it can't map."""
    with open(path, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def unreadable(error: Exception) -> str:
    """Why torch didn't load a checkpoint with `weights_only`, in one line."""
    if not isinstance(error, pickle.UnpicklingError):
        return f'it is damaged or no checkpoint ({one_line(error, kind=True)})'
    blocked = re.search(r'GLOBAL (\S+)', str(error))
    if blocked:
        return f'it holds {blocked[1]}, more than tensors and plain values, and is not loaded for safety'
    return 'it is damaged or no checkpoint'  # torch's own words are advice to load it unsafely
