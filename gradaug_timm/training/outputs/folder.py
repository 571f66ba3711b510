"""The output folder of a run, with checkpoints and the table of epochs."""
import csv
import glob
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from filelock import BaseFileLock, FileLock, Timeout
from timm.models import safe_model_name
from timm.utils import get_outdir

from ...confusion.settings import ENDINGS
from ...files import PARTIAL, replacing
from ..arguments.checks import DEFAULT_OUTPUT
from ..arguments.settings import LoopSettings
from ..checkpoints.find import LAST, find_newest_checkpoint
from ..checkpoints.weights import BEST_WEIGHTS

_logger = logging.getLogger(__name__)

TABLE, LOG, CURVES, EVENTS = 'summary.csv', 'log.jsonl', 'learning_curves.png', 'tensorboard'
EARLY = (  # files that exist before the first result and the first checkpoint
    'args.yaml', 'run.json', LOG, f'{EVENTS}/events.out.tfevents.*', 'inputs-*.png')
OWN_FILES = (*EARLY, TABLE, CURVES, *(f'confusion_matrix{each}' for each in ENDINGS), '*.pth.tar', BEST_WEIGHTS)
LOCK = '.lock'


@dataclass(frozen=True)
class RunFolder:
    """The output folder of a run; `held` is the lock against other runs, `left_over` are files of an earlier run."""

    path: str
    held: BaseFileLock | None = field(default=None, compare=False, repr=False)
    left_over: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def release(self) -> None:
        """Let other runs use the folder."""
        if self.held is not None:
            self.held.release()

    def clear(self) -> None:
        """Delete the files of an earlier run."""
        for file in self.left_over:
            os.remove(file)

    @property
    def summary(self) -> str:
        """The table of epochs."""
        return os.path.join(self.path, TABLE)

    @property
    def log(self) -> str:
        """The log, with a line of JSON for each log interval and each epoch."""
        return os.path.join(self.path, LOG)

    @property
    def last(self) -> str:
        """The newest checkpoint."""
        return os.path.join(self.path, LAST)

    def holds(self, checkpoint: str) -> bool:
        """Return whether a checkpoint is in this folder."""
        return os.path.realpath(os.path.dirname(checkpoint)) == os.path.realpath(self.path)


def resume_path(args: LoopSettings) -> str | None:
    """Return the checkpoint to resume; None without `--resume`, or if `--resume auto` finds no checkpoint.

    Raises:
        ValueError: All checkpoints are damaged.
    """
    if args.resume != 'auto':
        return args.resume or None
    return find_newest_checkpoint(os.path.join(args.output or DEFAULT_OUTPUT, args.experiment))


def claim_folder(args: LoopSettings, image_size: int, resumed_from: str | None) -> RunFolder | None:
    """Create the folder of this run and lock it against other runs; return None in a dry run.

    Files of an earlier run, or of a killed process, are kept until `RunFolder.clear`.

    Raises:
        ValueError: The folder has an earlier run, which is neither resumed nor overwritten.
    """
    output = args.output or DEFAULT_OUTPUT
    if not args.experiment:
        if args.dry_run:
            return None
        started = datetime.now().strftime('%Y%m%d-%H%M%S')
        path = get_outdir(output, f'{started}-{safe_model_name(args.model)}-{image_size}', inc=True)
        return RunFolder(path, hold_folder(path))
    path = os.path.join(output, args.experiment)
    continued = resumed_from is not None and RunFolder(path).holds(resumed_from)
    used = [] if continued else _own_files(path)
    if not args.overwrite and not _died_early(path, used, args.resume):
        _check_room(path, used)
    if args.dry_run:
        return None
    os.makedirs(path, exist_ok=True)
    return RunFolder(path, hold_folder(path), left_over=(*used, *_matching(path, f'*{PARTIAL}')))


def _own_files(path: str, patterns: Iterable[str] = OWN_FILES) -> list[str]:
    return [file for pattern in patterns for file in _matching(path, pattern)]


def _matching(path: str, pattern: str) -> list[str]:
    return glob.glob(os.path.join(glob.escape(path), pattern))


def _died_early(path: str, used: list[str], resume: str) -> bool:
    """Return whether a run to resume was killed between the first row of its table and the first checkpoint."""
    late = {*used} - {*_own_files(path, (*EARLY, TABLE))}
    return resume == 'auto' and not late and len(read_rows(os.path.join(path, TABLE))) <= 1


def _check_room(path: str, used: list[str]) -> None:
    traces = sorted(map(os.path.basename, {*used} - {*_own_files(path, EARLY)}))
    if traces:
        raise ValueError(
            f'--experiment: {path} already exists with an earlier run ({", ".join(traces[:3])}); use --resume auto to '
            'continue it, --overwrite to replace it, or another name')


def hold_folder(path: str) -> BaseFileLock:
    """Lock a folder against other processes until the returned lock is released or deleted, or this process ends.

    The operating system owns the lock, so that the lock file of a killed run locks nothing. Forked data workers do not
    inherit the lock.

    Raises:
        ValueError: Another process has locked the folder.
    """
    lock = FileLock(
        os.path.join(path, LOCK),
        blocking=False,
        thread_local=False,
        is_singleton=True,  # this process may lock a folder twice: a finished run exists until it is garbage-collected
        fallback_to_soft=False,  # a soft lock would remain after a run on another machine was killed
    )
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f'--experiment: another run is writing to {path}; wait for it, or use another name') from None
    except OSError as error:  # raised by file systems without locks
        _logger.warning(f'{path} cannot be locked against other runs: {error.strerror or error}.')
    return lock


def append_row(path: str, row: dict) -> None:
    """Add a row to the table at `path`, with new columns if the row has any."""
    rows = read_rows(path)
    columns = list(dict.fromkeys([*(rows[0] if rows else ()), *row]))
    with replacing(path, newline='') as file:
        writer = csv.DictWriter(file, columns, restval='')
        writer.writeheader()
        writer.writerows([*rows, row])


def read_rows(path: str) -> list[dict[str, str]]:
    """Return the rows of the table at `path`; an empty list if the file does not exist."""
    if not os.path.exists(path):
        return []
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def drop_rows(path: str, epoch: int) -> None:
    """Remove the rows of `epoch` and later epochs from the table at `path`.

    Raises:
        ValueError: The file is not a table of epochs.
    """
    rows = read_rows(path)
    try:
        kept = [row for row in rows if int(row['epoch']) < epoch]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is broken: a row has no epoch number') from error
    if len(kept) == len(rows):
        return
    with replacing(path, newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
