"""The output folder of a run: its checkpoints and its table of epochs."""
import argparse
import csv
import glob
import os
from dataclasses import dataclass
from datetime import datetime

from timm.models import safe_model_name
from timm.utils import get_outdir

from ..files import PARTIAL, replacing
from .arguments.checks import DEFAULT_OUTPUT
from .checkpoints import BEST_WEIGHTS, newest_valid

OWN_FILES = ('summary.csv', '*.pth.tar', BEST_WEIGHTS, 'learning_curves.png', 'args.yaml', 'run.json')
WRITTEN_AT_START = ('args.yaml', 'run.json')
LAST = 'last.pth.tar'


@dataclass(frozen=True)
class RunFolder:
    """The folder that a run writes to."""

    path: str

    @property
    def summary(self) -> str:
        """The table of epochs."""
        return os.path.join(self.path, 'summary.csv')

    @property
    def last(self) -> str:
        """The newest checkpoint."""
        return os.path.join(self.path, LAST)

    def holds(self, checkpoint: str) -> bool:
        """Whether `checkpoint` lies in this folder."""
        return os.path.realpath(os.path.dirname(checkpoint)) == os.path.realpath(self.path)


def resume_path(args: argparse.Namespace) -> str | None:
    """The checkpoint to continue from; None starts afresh, as `--resume auto` does where there is none yet.

    Raises:
        ValueError: There are only damaged ones.
    """
    if args.resume != 'auto':
        return args.resume or None
    return newest_valid(os.path.join(args.output or DEFAULT_OUTPUT, args.experiment))


def open_folder(args: argparse.Namespace, image_size: int, resumed_from: str | None) -> RunFolder:
    """Makes the folder of this run.

    Raises:
        ValueError: It holds an earlier run that is neither continued nor to be overwritten.
    """
    output = args.output or DEFAULT_OUTPUT
    if not args.experiment:
        started = datetime.now().strftime('%Y%m%d-%H%M%S')
        return RunFolder(get_outdir(output, f'{started}-{safe_model_name(args.model)}-{image_size}', inc=True))
    folder = RunFolder(os.path.join(output, args.experiment))
    continued = resumed_from is not None and folder.holds(resumed_from)
    if not continued:
        _make_room(folder.path, args.overwrite)
    os.makedirs(folder.path, exist_ok=True)
    for partial in glob.glob(os.path.join(glob.escape(folder.path), f'*{PARTIAL}')):
        os.remove(partial)  # of a process that was killed
    return folder


def _make_room(path: str, overwrite: bool) -> None:
    used = [file for pattern in OWN_FILES for file in glob.glob(os.path.join(glob.escape(path), pattern))]
    traces = [name for name in map(os.path.basename, used) if name not in WRITTEN_AT_START]
    if traces and not overwrite:
        raise ValueError(
            f'--experiment: {path} holds an earlier run ({", ".join(sorted(traces)[:3])}): continue it by '
            '--resume auto, delete it by --overwrite, or take another name')
    if overwrite:
        for file in used:
            os.remove(file)


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
    with open(path, newline='') as file:
        return list(csv.DictReader(file))
