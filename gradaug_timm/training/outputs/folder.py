"""The output folder of a run: its checkpoints and its table of epochs."""
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

from ...files import PARTIAL, replacing
from ..arguments.checks import DEFAULT_OUTPUT
from ..arguments.settings import LoopSettings
from ..checkpoints.find import LAST, find_newest_checkpoint
from ..checkpoints.weights import BEST_WEIGHTS

_logger = logging.getLogger(__name__)

TABLE, LOG, CURVES, EVENTS = 'summary.csv', 'log.jsonl', 'learning_curves.png', 'tensorboard'
EARLY = (  # what there is before anything that a run can be continued from, and judged by
    'args.yaml', 'run.json', LOG, f'{EVENTS}/events.out.tfevents.*', 'inputs-*.png')
OWN_FILES = (*EARLY, TABLE, CURVES, '*.pth.tar', BEST_WEIGHTS)
LOCK = '.lock'


@dataclass(frozen=True)
class RunFolder:
    """The folder that a run writes to, as the only one while it is `held`; `left_over` are files of an earlier run."""

    path: str
    held: BaseFileLock | None = field(default=None, compare=False, repr=False)
    left_over: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def clear(self) -> None:
        """Deletes what an earlier run left."""
        for file in self.left_over:
            os.remove(file)

    @property
    def summary(self) -> str:
        """The table of epochs."""
        return os.path.join(self.path, TABLE)

    @property
    def log(self) -> str:
        """The log, a line of JSON for each log interval and each epoch."""
        return os.path.join(self.path, LOG)

    @property
    def last(self) -> str:
        """The newest checkpoint."""
        return os.path.join(self.path, LAST)

    def holds(self, checkpoint: str) -> bool:
        """Whether `checkpoint` lies in this folder."""
        return os.path.realpath(os.path.dirname(checkpoint)) == os.path.realpath(self.path)


def resume_path(args: LoopSettings) -> str | None:
    """The checkpoint to continue from; None starts afresh, as `--resume auto` does where there is none yet.

    Raises:
        ValueError: There are only damaged ones.
    """
    if args.resume != 'auto':
        return args.resume or None
    return find_newest_checkpoint(os.path.join(args.output or DEFAULT_OUTPUT, args.experiment))


def claim_folder(args: LoopSettings, image_size: int, resumed_from: str | None) -> RunFolder | None:
    """Makes the folder of this run, and keeps other runs out; a dry run has none.

    What an earlier run left there, or a process that was killed, stays until `RunFolder.clear`.

    Raises:
        ValueError: It holds an earlier run that is neither continued nor to be overwritten.
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
    """Whether a run to continue was killed between the first row of its table and its first checkpoint."""
    late = {*used} - {*_own_files(path, (*EARLY, TABLE))}
    return resume == 'auto' and not late and len(read_rows(os.path.join(path, TABLE))) <= 1


def _check_room(path: str, used: list[str]) -> None:
    traces = sorted(map(os.path.basename, {*used} - {*_own_files(path, EARLY)}))
    if traces:
        raise ValueError(
            f'--experiment: {path} holds an earlier run ({", ".join(traces[:3])}): continue it by '
            '--resume auto, delete it by --overwrite, or take another name')


def hold_folder(path: str) -> BaseFileLock:
    """Keep other processes out of a folder until the returned lock is released or deleted, or this process ends.

    The operating system owns the lock, so a lock file that a killed run left keeps nobody out. Forked data workers
    don't inherit it.

    Raises:
        ValueError: Another process holds the folder.
    """
    lock = FileLock(
        os.path.join(path, LOCK),
        blocking=False,
        thread_local=False,
        is_singleton=True,  # this process may hold a folder twice: a finished run lives until it is collected
        fallback_to_soft=False,  # such a lock would stay where a run on another machine was killed
    )
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f'--experiment: another run is writing to {path}: wait for it, or take another name') from None
    except OSError as error:  # of a file system without locks
        _logger.warning(f'{path} can\'t be locked against other runs: {error.strerror or error}.')
    return lock


def append_row(path: str, row: dict) -> None:
    """Adds a row to the table at `path`, with new columns where the row has some."""
    rows = read_rows(path)
    columns = list(dict.fromkeys([*(rows[0] if rows else ()), *row]))
    with replacing(path, newline='') as file:
        writer = csv.DictWriter(file, columns, restval='')
        writer.writeheader()
        writer.writerows([*rows, row])


def read_rows(path: str) -> list[dict[str, str]]:
    """The rows of the table at `path`; none where there is no such file."""
    if not os.path.exists(path):
        return []
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def drop_rows(path: str, epoch: int) -> None:
    """Takes the rows of `epoch` and later ones out of the table at `path`.

    Raises:
        ValueError: It is no table of epochs.
    """
    rows = read_rows(path)
    try:
        kept = [row for row in rows if int(row['epoch']) < epoch]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is broken: a row has no number of an epoch') from error
    if len(kept) == len(rows):
        return
    with replacing(path, newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
