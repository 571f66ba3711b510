"""The picture of the learning curves of a run."""
import logging
import math
import os
import time

from ...cli import one_line
from ...files import written_aside
from .folder import CURVES, RunFolder, read_rows

_logger = logging.getLogger(__name__)

PAUSE = 60.  # seconds between pictures, at least
MARGIN = 0.03  # of an axis, below zero
SHARE = 0.01  # largest share of the time for drawing


class PictureError(Exception):
    """The error that the curves cannot be drawn, with the reason; an earlier picture is intact."""


class CurvesInRun:
    """The picture of a run under way, drawn at most once per minute and in 1% of the time, until drawing fails.

    Args:
        folder: The folder of the run.
        metric: The validation metric.
    """

    def __init__(self, folder: RunFolder, metric: str):
        self._folder, self._metric = folder, metric
        self._due = time.monotonic() + PAUSE

    def update(self) -> None:
        """Draw the curves if they are due."""
        started = time.monotonic()
        if started >= self._due:
            try:
                plot_curves(self._folder, self._metric)
            except PictureError as error:
                _logger.warning(f'Learning curves are not drawn: {error}.')
                self._due = math.inf
            else:
                ended = time.monotonic()
                self._due = ended + max(PAUSE, (ended - started) / SHARE)


def plot_curves(folder: RunFolder, metric: str) -> str:
    """Draw the training loss and the validation metric over epochs; return the path of the picture.

    Raises:
        PictureError: Drawing failed, for any reason.
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


def _fit(axis, points: list[tuple[int, float]]) -> None:
    """Mark whole epochs, and begin the axis at zero for one epoch or equal values, which would fill any axis."""
    from matplotlib.ticker import MaxNLocator
    epochs, values = {epoch for epoch, _ in points}, {value for _, value in points}
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs) == 1:
        axis.set_xticks([*epochs])
    if len(values) == 1:
        value, = values
        low, high = sorted((0., 1.2 * value or 1.))
        axis.set_ylim(low - MARGIN * (high - low), high)


def _draw(axis, rows: list[dict[str, str]], column: str, label: str, color: str) -> None:
    points = [(int(row['epoch']), float(row[column])) for row in rows if row.get(column)]
    points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    marker = 'o' if len(points) < 30 else None
    axis.plot(*zip(*points) if points else ((), ()), color=color, marker=marker,
              markersize=3 if len(points) > 1 else 7)
    _fit(axis, points)
    axis.set_ylabel(label, color=color)
    axis.tick_params(axis='y', labelcolor=color)
