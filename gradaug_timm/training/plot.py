"""The picture of a run's learning curves."""
import math
import os

from .folder import RunFolder, read_rows

PICTURE = 'learning_curves.png'


def plot_curves(folder: RunFolder, metric: str) -> str | None:
    """Draws training loss and validation `metric` over epochs; None where matplotlib isn't installed."""
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
    path = os.path.join(folder.path, PICTURE)
    figure.savefig(path, dpi=120)
    return path


def _draw(axis, rows: list[dict[str, str]], column: str, label: str, color: str) -> None:
    points = [(int(row['epoch']), float(row[column])) for row in rows if row.get(column)]
    points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    marker = 'o' if len(points) < 30 else None
    axis.plot(*zip(*points) if points else ((), ()), color=color, marker=marker, markersize=3)
    axis.set_ylabel(label, color=color)
    axis.tick_params(axis='y', labelcolor=color)
