"""A simulation of Windows in a process: functions that Windows lacks are removed, and calls that it rejects fail.

`python -m windows MODULE:FUNCTION ARGUMENT...` calls one or more commands, separated by `--`.
"""
import asyncio  # noqa: F401  (its part for Unix imports fcntl)
import contextlib
import errno
import fcntl
import importlib
import os
import signal
import subprocess  # noqa: F401
import sys
from importlib.abc import MetaPathFinder

UNIX_ONLY = ('fcntl', 'grp', 'pwd', 'resource', 'syslog', 'termios')
SIGNALS = ('SIGALRM', 'SIGCHLD', 'SIGHUP', 'SIGKILL', 'SIGUSR1', 'SIGUSR2')
DENIED = 'what is open can be neither replaced nor removed on Windows'

_open, _fsync, _status_flags = os.open, os.fsync, (fcntl.fcntl, fcntl.F_GETFL)


class Hidden(MetaPathFinder):
    """Finds no module of Unix."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname in UNIX_ONLY:
            raise ModuleNotFoundError(f'No module named {fullname!r}', name=fullname)
        return None


def open_file(path, flags, *args, **kwargs) -> int:
    """`os.open`, which opens no folder there."""
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, 'a folder can\'t be opened on Windows', path)
    return _open(path, flags, *args, **kwargs)


def fsync(descriptor: int) -> None:
    """`os.fsync`, which flushes only what is open for writing."""
    get, what = _status_flags
    if get(descriptor, what) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, 'Bad file descriptor')
    _fsync(descriptor)


def in_use(path) -> bool:
    """Whether this process has the file open or mapped into its memory."""
    path = os.path.realpath(path)
    if not os.path.isfile(path) or path.startswith('/dev/shm/'):  # multiprocessing's memory, which is no file there
        return False
    with open('/proc/self/maps') as maps:
        mapped = any(line.rstrip('\n').endswith(path) for line in maps)
    for descriptor in os.listdir('/proc/self/fd'):
        with contextlib.suppress(OSError):
            if os.readlink(f'/proc/self/fd/{descriptor}') == path:
                return True
    return mapped


def only_closed(change):
    """`os.replace` and the like, which change no file that is in use."""
    def changed(*paths, **kwargs):
        for path in paths:
            if not isinstance(path, int) and in_use(path):
                raise PermissionError(errno.EACCES, DENIED, os.fspath(path))
        return change(*paths, **kwargs)
    return changed


def imitate() -> None:
    """Makes this process like one on Windows."""
    for name in UNIX_ONLY:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Hidden())
    for name in SIGNALS:
        delattr(signal, name)
    del os.O_DIRECTORY
    os.open, os.fsync = open_file, fsync
    os.replace, os.rename, os.remove, os.unlink = map(only_closed, (os.replace, os.rename, os.remove, os.unlink))


def main(words: list[str]) -> None:
    """Calls the commands in `words`; each prints its exit status behind its name."""
    while words:
        end = words.index('--') if '--' in words else len(words)
        (entry, *argv), words = words[:end], words[end + 1:]
        module, _, function = entry.partition(':')
        sys.argv = [entry, *argv]
        status = 0
        try:
            getattr(importlib.import_module(module), function)()
        except SystemExit as ended:
            status = ended.code or 0
        print(f'{entry} ended with {status}', flush=True)


if __name__ == '__main__':
    imitate()
    main(sys.argv[1:])
