"""The curves of all methods in one picture."""
import itertools
import math
import statistics
from collections.abc import Sequence

from .methods import Method
from .tables import label

LATE = 0.5  # share of each run's epochs, at its end, whose values the second panel has room for


def draw(path: str, methods: Sequence[Method], metric: str, *, title: str) -> bool:
    """Draws `metric` over epochs, a colour a method, the mean as a line, the seeds thin; and the late values enlarged.

    Returns:
        Whether there is a picture: not where matplotlib isn't installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    drawn = [method for method in methods if any(run.series(metric) for run in method.runs)]
    colors = colormaps['tab10' if len(drawn) <= 10 else 'tab20'].colors
    figure = Figure(figsize=(13, 5.5), layout='constrained')
    FigureCanvasAgg(figure)
    whole, end = figure.subplots(1, 2)
    for method, color in zip(drawn, itertools.cycle(colors)):
        for axis in (whole, end):
            _draw_method(axis, method, metric, color)
    for axis in (whole, end):
        axis.set_xlabel('epochs')
        axis.set_ylabel(label(metric) if metric.startswith('train_') else f'validation {label(metric)}')
        axis.grid(alpha=0.3)
    _show_end(end, drawn, metric)
    whole.set_title('all epochs')
    end.set_title('the later half, enlarged')
    figure.suptitle(title)
    figure.legend(*whole.get_legend_handles_labels(), loc='outside lower center', ncols=min(4, len(drawn)))
    figure.savefig(path, dpi=120)
    return True


def _draw_method(axis, method: Method, metric: str, color) -> None:
    points = mean_curve(method, metric)
    axis.plot(
        *_split(points),
        color=color,
        linewidth=2,
        linestyle='-' if method.finished else '--',
        marker='o' if len(points) < 30 else None,
        markersize=3,
        label=method.name,
    )
    if len(method.runs) > 1:
        for run in method.runs:
            axis.plot(*_split(run.series(metric)), color=color, linewidth=0.7, alpha=0.5)


def _split(points: list[tuple[int, float]]) -> tuple[tuple, tuple]:
    return tuple(zip(*points)) if points else ((), ())


def mean_curve(method: Method, metric: str) -> list[tuple[int, float]]:
    """The mean over the runs after each number of epochs for which all of them have a value."""
    series = [dict(run.series(metric)) for run in method.runs if run.series(metric)]
    common = set.intersection(*map(set, series))
    return [(epoch, statistics.mean(values[epoch] for values in series)) for epoch in sorted(common)]


def _show_end(axis, methods: Sequence[Method], metric: str) -> None:
    """Limits the axis to the values of the later epochs."""
    series = [run.series(metric) for method in methods for run in method.runs]
    values = [value for points in series for epoch, value in points
              if epoch >= points[-1][0] * (1 - LATE) and math.isfinite(value)]
    if values and max(values) > min(values):
        margin = 0.05 * (max(values) - min(values))
        axis.set_ylim(min(values) - margin, max(values) + margin)
