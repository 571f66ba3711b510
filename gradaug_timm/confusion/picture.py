"""The picture of a confusion matrix: with names on its axes, or with the most confused pairs next to it."""
import warnings
from collections.abc import Sequence

import torch

from ..files import written_aside

FEW = 30  # classes whose names fit on the axes
COUNTED = 20  # classes whose counts fit into the cells
LONGEST = 24  # characters of a name
DPI = 160


def draw(counts: torch.Tensor, titles: Sequence[str], pairs: Sequence[dict], path: str) -> None:
    """Draw the shares of each true class that were taken for each class.

    Args:
        counts: Number of images by true and predicted class.
        titles: Names of the classes.
        pairs: The most confused pairs, which are listed where names do not fit on the axes.
        path: The picture.

    Raises:
        OSError: It can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    few = len(counts) <= FEW
    listed = bool(pairs) and not few
    side = max(4., 0.45 * len(counts) + 2) if few else 9.5
    figure = Figure(figsize=(side + (6 if listed else 1), side), layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, 2 if listed else 1, width_ratios=[side, 5] if listed else [1])
    axes = figure.add_subplot(grid[0])
    shares = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    shown = axes.imshow(
        (100 * shares).numpy(), cmap='viridis', norm=PowerNorm(0.5, 0, 100), interpolation='nearest')
    figure.colorbar(shown, ax=axes, label='images of the true class (%)', shrink=0.8)
    total, correct = int(counts.sum()), int(counts.trace())
    axes.set_title(f'{correct:,} of {total:,} images right ({100 * correct / max(1, total):.2f}%)')
    axes.set_xlabel('predicted class')
    axes.set_ylabel('true class')
    if few:
        _name_axes(axes, titles)
    if len(counts) <= COUNTED:
        _write_counts(axes, counts, shares)
    if listed:
        _list_pairs(figure.add_subplot(grid[1]), pairs)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph')  # of names in scripts that the font lacks
        with written_aside(path) as partial:
            figure.savefig(partial, dpi=DPI, format='png')


def _name_axes(axes, titles: Sequence[str]) -> None:
    short = [_shortened(title) for title in titles]
    turned = 90 if max(map(len, short)) > 3 else 0
    places = range(len(short))
    axes.set_xticks(places, short, rotation=turned, parse_math=False)
    axes.set_yticks(places, short, parse_math=False)


def _write_counts(axes, counts: torch.Tensor, shares: torch.Tensor) -> None:
    for row, column in counts.nonzero().tolist():
        colour = 'black' if shares[row, column] > 0.5 else 'white'
        axes.text(column, row, str(int(counts[row, column])), ha='center', va='center', color=colour, fontsize=8)


def _list_pairs(axes, pairs: Sequence[dict]) -> None:
    axes.set_title('most confused: true → predicted')
    names = [f'{_shortened(pair["true"])} → {_shortened(pair["predicted"])}' for pair in pairs]
    bars = axes.barh(range(len(pairs)), [pair['count'] for pair in pairs], color='tab:orange')
    axes.bar_label(bars, [f'{pair["count"]} ({100 * pair["share"]:.0f}%)' for pair in pairs], padding=2, fontsize=8)
    axes.set_yticks(range(len(pairs)), names, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel('images (share of the true class)')
    axes.margins(x=0.2)


def _shortened(title: str) -> str:
    return title if len(title) <= LONGEST else f'{title[:LONGEST - 1]}…'
