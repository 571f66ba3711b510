"""The log in the folder of a run: a line of JSON for each log interval and each epoch, and pictures as PNG."""
import json
import math
import os
import time
from dataclasses import dataclass

from PIL import Image

from ....files import replacing, written_aside
from ..folder import LOG
from .logger import Logger


class FolderLogger(Logger):
    """A logger that appends to log.jsonl, each line with one write; numbers that are not finite become null.

    Args:
        path: The folder.
    """

    def __init__(self, path: str):
        self._path, self._log = path, os.path.join(path, LOG)

    def log(self, values: dict[str, float], step: int) -> None:
        entry = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({'step': step, 'time': round(time.time(), 3), **entry}) + '\n'
        try:
            with open(self._log, 'ab') as file:
                file.write(line.encode())
        except OSError as error:
            raise OSError(f'{self._log} cannot be written: {error.strerror or error}') from error

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        with written_aside(os.path.join(self._path, f'{name}-{step}.png')) as partial:
            picture.save(partial, format='PNG')

    def flush(self) -> None:
        if os.path.exists(self._log):
            with open(self._log, 'ab') as file:
                os.fsync(file.fileno())


@dataclass(frozen=True)
class ContinuedLog:
    """The log of a run that is resumed.

    Args:
        path: The file.
        kept: The lines until the checkpoint; None if all lines are.
        ahead: How many more updates the log has before the epoch than this run counts, as the batch size or the number
            of processes may have changed.
    """

    path: str
    kept: list[str] | None = None
    ahead: int = 0

    def cut(self) -> None:
        """Remove lines after the checkpoint, and an incomplete last line."""
        if self.kept is not None:
            with replacing(self.path) as file:
                file.writelines(self.kept)


def continue_log(path: str, epoch: int, begun: int, done: int) -> ContinuedLog:
    """Find the lines of the log at `path` that were written until a checkpoint; nothing is changed.

    Args:
        path: The log, which may not exist.
        epoch: The epoch in which the run resumes; earlier epochs are complete.
        begun: Updates before that epoch, as this run counts them.
        done: Updates in that epoch until the checkpoint.

    Raises:
        ValueError: The file is not the log of a run.
    """
    if not os.path.exists(path):
        return ContinuedLog(path)
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.readlines()
        entries = [(line, json.loads(line)) for line in lines if line.endswith('\n')]
        ends = [entry['step'] for _, entry in entries if entry.get('step/epoch') == epoch - 1]
        ahead = ends[-1] - begun if ends else 0
        kept = [line for line, entry in entries if _came_before(entry, epoch, begun + ahead + done)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is broken: a line is not from the log of a run') from error
    return ContinuedLog(path, kept if len(kept) < len(lines) else None, ahead)


def _came_before(entry: dict, epoch: int, step: int) -> bool:
    if 'epoch' in entry:  # the line of a whole epoch
        return entry['epoch'] < epoch
    return (entry['step/epoch'], entry['step']) <= (epoch, step)
