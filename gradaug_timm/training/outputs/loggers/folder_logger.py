"""The log in a run's folder: a line of JSON for each log interval and each epoch, and pictures as PNG."""
import json
import math
import os
import time

from PIL import Image

from ....files import replacing, written_aside
from ..folder import LOG
from .logger import Logger


class FolderLogger(Logger):
    """Appends to log.jsonl, each line by one write; what isn't finite is null there.

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
            raise OSError(f'{self._log} can\'t be written: {error.strerror or error}') from error

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        with written_aside(os.path.join(self._path, f'{name}-{step}.png')) as partial:
            picture.save(partial, format='PNG')

    def flush(self) -> None:
        if os.path.exists(self._log):
            with open(self._log, 'ab') as file:
                os.fsync(file.fileno())


def continue_log(path: str, epoch: int, begun: int, done: int) -> int:
    """Takes out of the log at `path` what came after a checkpoint, and a last line that was cut off.

    Args:
        path: The log; there may be none.
        epoch: The epoch that the run goes on with: those before it are complete.
        begun: Updates before that epoch, as the run counts them.
        done: Updates in it until the checkpoint.

    Returns:
        How many updates more than `begun` the log has before the epoch: batches or processes may have been others then.

    Raises:
        ValueError: It is no such log.
    """
    if not os.path.exists(path):
        return 0
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.readlines()
        entries = [(line, json.loads(line)) for line in lines if line.endswith('\n')]
        ends = [entry['step'] for _, entry in entries if entry.get('step/epoch') == epoch - 1]
        ahead = ends[-1] - begun if ends else 0
        kept = [line for line, entry in entries if _came_before(entry, epoch, begun + ahead + done)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is broken: a line isn\'t one of a run\'s log') from error
    if len(kept) < len(lines):
        with replacing(path) as file:
            file.writelines(kept)
    return ahead


def _came_before(entry: dict, epoch: int, step: int) -> bool:
    if 'epoch' in entry:  # of a whole epoch
        return entry['epoch'] < epoch
    return (entry['step/epoch'], entry['step']) <= (epoch, step)
