"""The picture of a run's learning curves."""
import math
import os
import time

from ..files import written_aside
from .folder import CURVES, RunFolder, read_rows

PAUSE = 60.  # seconds between pictures, at least
SHARE = 0.01  # of the time may be spent on drawing them


class CurvesInRun:
    """Draws the curves again after an epoch, at most once in a minute and in 1% of the time.

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
            plot_curves(self._folder, self._metric)
            ended = time.monotonic()
            self._due = ended + max(PAUSE, (ended - started) / SHARE)


def plot_curves(folder: RunFolder, metric: str) -> str | None:
    """Draws training loss and validation `metric` over epochs; None where matplotlib isn't installed.

    Raises:
        OSError: The picture can't be written; the one before is whole.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    rows = read_rows(folder.summary)
    figure = Figure(figsize=(8, 5), layout='constrained')
    FigureCanvasAgg(figure)
    loss_axis = figure.add_subplot()
    _draw(loss_axis, rows, 'train_loss', 'training loss', 'tab:blue')
    loss_axis.set_xlabel('epoch')
    if any(row.get(f'eval_{metric}') for row in rows):
        _draw(loss_axis.twinx(), rows, f'eval_{metric}', f'validation {metric}', 'tab:orange')
    loss_axis.set_title(os.path.basename(os.path.normpath(folder.path)))
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
