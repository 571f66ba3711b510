"""Picture of a comparison: the metric by computation, a curve and a band for each method."""
import itertools
import math
from collections.abc import Sequence

from ..report.tables import label
from .table import Row


def draw(rows: Sequence[Row], metric: str):
    """Return a figure; None if matplotlib is not installed or no run is finished."""
    finished = [(row, row.mean) for row in rows if row.mean is not None]
    if not finished:
        return None
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(8, 5), layout='constrained')
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    colors = itertools.cycle(colormaps['tab10'].colors)  # type: ignore[attr-defined]
    for method, color in zip(dict.fromkeys(row.method for row, _ in finished), colors):
        own = [(row.spent, mean.mean, mean.half if math.isfinite(mean.half) else 0.)
               for row, mean in finished if row.method == method]
        compute, means, halves = zip(*own)
        axis.plot(compute, means, 'o-', color=color, label=method)
        low, high = ([mean + sign * half for mean, half in zip(means, halves)] for sign in (-1, 1))
        axis.fill_between(compute, low, high, color=color, alpha=0.15)
        if len(own) == 1:
            axis.errorbar(compute, means, yerr=halves, color=color, capsize=4)
    axis.set(xlabel='computation, as a multiple of plain training', ylabel=f'validation {label(metric)}')
    axis.grid(alpha=0.3)
    axis.legend()
    return figure
