"""The picture of a run's learning curves."""
import logging
import math
import os
import time

from ...cli import one_line
from ...files import written_aside
from .folder import CURVES, RunFolder, read_rows

_logger = logging.getLogger(__name__)

PAUSE = 60.  # seconds between pictures, at least
SHARE = 0.01  # of the time may be spent on drawing them


class PictureError(Exception):
    """The curves can't be drawn; the message says why. A picture that was there is whole."""


class CurvesInRun:
    """Draws the curves again after an epoch, at most once in a minute and in 1% of the time, until it can't.

    Args:
        folder: That of the run.
        metric: The validation metric.
    """

    def __init__(self, folder: RunFolder, metric: str):
        self._folder, self._metric = folder, metric
        self._due = time.monotonic() + PAUSE

    def update(self) -> None:
        """Draws them where that is due."""
        started = time.monotonic()
        if started >= self._due:
            try:
                plot_curves(self._folder, self._metric)
            except PictureError as error:
                _logger.warning(f'No learning curves are drawn: {error}.')
                self._due = math.inf
            else:
                ended = time.monotonic()
                self._due = ended + max(PAUSE, (ended - started) / SHARE)


def plot_curves(folder: RunFolder, metric: str) -> str:
    """Draws training loss and validation `metric` over epochs; returns the picture's path.

    Raises:
        PictureError: Whatever went wrong in that.
    """
    try:
        return _plot(folder, metric)
    except ImportError as error:
        raise PictureError('matplotlib is not installed (pip install matplotlib)') from error
    except Exception as error:
        raise PictureError(one_line(error, None, kind=True)) from error


def _plot(folder: RunFolder, metric: str) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    rows = read_rows(folder.summary)
    figure = Figure(figsize=(8, 5), layout='constrained')
    FigureCanvasAgg(figure)
    loss_axis = figure.add_subplot()
    _draw(loss_axis, rows, 'train_loss', 'training loss', 'tab:blue')
    loss_axis.set_xlabel('epoch')
    if any(row.get(f'eval_{metric}') for row in rows):
        _draw(loss_axis.twinx(), rows, f'eval_{metric}', f'validation {metric}', 'tab:orange')
    loss_axis.set_title(os.path.basename(os.path.normpath(folder.path)), parse_math=False)
    path = os.path.join(folder.path, CURVES)
    with written_aside(path) as partial:
        figure.savefig(partial, dpi=120, format='png')
    return path


def _draw(axis, rows: list[dict[str, str]], column: str, label: str, color: str) -> None:
    points = [(int(row['epoch']), float(row[column])) for row in rows if row.get(column)]
    points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    marker = 'o' if len(points) < 30 else None
    axis.plot(*zip(*points) if points else ((), ()), color=color, marker=marker, markersize=3)
    axis.set_ylabel(label, color=color)
    axis.tick_params(axis='y', labelcolor=color)
