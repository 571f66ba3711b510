"""Files that are written whole or not at all, and what is wrong with those that can't be read."""
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def written_aside(path: str | os.PathLike) -> Iterator[str]:
    """The name of a file to write, which takes the place of `path` at the end of the context, unless that raises.

    Raises:
        OSError: It can't be written; the message names `path`.
    """
    partial = f'{path}.partial'
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f'{path} can\'t be written: {error.strerror or error}') from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def unreadable(error: Exception) -> str:
    """Why torch didn't load a checkpoint with `weights_only`, in one line."""
    if not isinstance(error, pickle.UnpicklingError):
        return f'it is damaged or no checkpoint ({" ".join([type(error).__name__, *str(error).split()])[:200]})'
    blocked = re.search(r'GLOBAL (\S+)', str(error))
    if blocked:
        return f'it holds {blocked[1]}, more than tensors and plain values, and is not loaded for safety'
    return 'it is damaged or no checkpoint'  # torch's own words are advice to load it unsafely
