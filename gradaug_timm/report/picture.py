"""Picture of the curves and final values of all methods."""
import itertools
import statistics
import textwrap
from collections.abc import Sequence

from .methods import Method
from .tables import label

SIZE = (13, 5.5)  # inches
LINE = 0.3  # smallest height of a method, in inches
LONGEST = 40  # most letters of a name on a line


def draw(methods: Sequence[Method], metric: str, *, title: str):
    """Return a figure with `metric` over epochs (mean over seeds thick, each seed thin) and with the final values.

    Returns:
        The figure; None if matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError:
        return None
    with rc_context({'text.parse_math': False}):  # a $ in a name does not start a formula
        return _figure([method for method in methods if method.final(metric)], metric, title)


def _figure(methods: Sequence[Method], metric: str, title: str):
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    colors = itertools.cycle(colormaps['tab10' if len(methods) <= 10 else 'tab20'].colors)  # type: ignore[attr-defined]
    figure = Figure(figsize=(SIZE[0], max(SIZE[1], 1 + LINE * len(methods))), layout='constrained')
    FigureCanvasAgg(figure)
    curves, ends = figure.subplots(1, 2, width_ratios=(3, 2))
    ends.set_yticks(range(len(methods)), [_end_label(method) for method in methods])
    for place, (method, color, tick) in enumerate(zip(methods, colors, ends.get_yticklabels())):
        tick.set_color(color)
        _draw_curves(curves, method, metric, color)
        _draw_ends(ends, place, method, metric, color)
    ends.set_ylim(len(methods) - 0.5, -0.5)
    name = label(metric) if metric.startswith('train_') else f'validation {label(metric)}'
    curves.set(xlabel='epochs', ylabel=name)
    curves.locator_params(axis='x', integer=True)
    ends.set(xlabel=f'{name} at the end: each seed, and their mean')
    for axis in (curves, ends):
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def _end_label(method: Method) -> str:
    return textwrap.fill(method.name if method.finished else f'{method.name} (unfinished)', LONGEST)


def _draw_curves(axis, method: Method, metric: str, color) -> None:
    points = mean_curve(method, metric)
    marker = 'o' if len(points) < 30 else None
    style = '-' if method.finished else '--'
    axis.plot(*_split(points), color=color, linewidth=2, linestyle=style, marker=marker, markersize=3)
    if len(method.runs) > 1:
        for run in method.runs:
            axis.plot(*_split(run.series(metric)), color=color, linewidth=0.7, alpha=0.5)


def _draw_ends(axis, place: int, method: Method, metric: str, color) -> None:
    """Draw a dot for each seed and a bar at the mean."""
    values = [run.series(metric)[-1][1] for run in method.runs if run.series(metric)]
    axis.plot(values, [place] * len(values), 'o', color=color, markersize=5, alpha=0.6)
    axis.plot([method.final(metric).mean], [place], '|', color=color, markersize=18, markeredgewidth=2.5)


def _split(points: list[tuple[int, float]]) -> tuple[tuple, ...]:
    return tuple(zip(*points)) if points else ((), ())


def mean_curve(method: Method, metric: str) -> list[tuple[int, float]]:
    """Return the mean over the runs after each number of epochs for which all runs have a value."""
    series = [dict(run.series(metric)) for run in method.runs if run.series(metric)]
    common = set.intersection(*map(set, series))
    return [(epoch, statistics.mean(values[epoch] for values in series)) for epoch in sorted(common)]
