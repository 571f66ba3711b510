"""Draw docs/method.png, the picture of a GradAug training step in the README.

    python docs/method.py

Needs matplotlib, which comes with the extra `quickstart`.
"""
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

OUTPUT = Path(__file__).with_name('method.png')
WIDTH, HEIGHT, DPI = 10.0, 6.2, 160  # inches, dots per inch

INK, GRAY, PALE, BLUE, ORANGE = '#1f2933', '#5f6c7b', '#cbd2d9', '#2b6cb0', '#c2570c'
FONT, SMALL = 11.5, 10

# Where the columns are (centers, in inches), and the rows of the full network, the sub-networks and inference.
BATCH, INPUT, NETWORK, PREDICTION, LOSS, UPDATE = 0.72, 2.1, 3.95, 5.7, 7.45, 9.27
FULL, SUBNETS, INFERENCE = 4.95, (3.55, 2.65, 1.75), 0.45
FORK, RAIL = 1.42, 6.35  # the vertical lines of the batch and of the soft target

LAYERS = (5, 6, 8, 10)  # channels of the drawn layers
KEPT = ((5, 5, 7, 9), (4, 5, 6, 8), (4, 4, 5, 6))  # channels of each sub-network
SIZES = (6 / 7, 1.0, 4 / 7)  # of the images that each sees, relative to the batch
BARS = ((0.16, 0.3, 0.2, 0.1), (0.2, 0.32, 0.12, 0.12), (0.14, 0.24, 0.24, 0.14))  # the prediction of each
CELL = 0.068  # height of a channel


def draw() -> None:
    """Write the picture."""
    figure = plt.figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor='white')
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT), aspect='equal')
    axes.axis('off')
    draw_headings(axes)
    draw_full_network(axes)
    for row in zip(SUBNETS, KEPT, SIZES, BARS):
        draw_subnet(axes, *row)
    draw_captions(axes)
    draw_soft_target(axes)
    draw_update(axes)
    draw_inference(axes)
    figure.savefig(OUTPUT, metadata={'Software': None})
    plt.close(figure)


def draw_headings(axes: Axes) -> None:
    """Name the columns."""
    for x, name in ((BATCH, 'Batch'), (INPUT, 'Input'), (NETWORK, 'Network'), (PREDICTION, 'Prediction'),
                    (LOSS, 'Loss'), (UPDATE, 'Update')):
        write(axes, x, HEIGHT - 0.25, name, weight='bold')
    axes.plot((0.2, WIDTH - 0.2), (HEIGHT - 0.47,) * 2, color=PALE, linewidth=1)


def draw_full_network(axes: Axes) -> None:
    """Draw the row of the full network, which learns from the labels."""
    draw_batch(axes, BATCH, FULL, 0.62)
    write(axes, INPUT, FULL + 0.17, 'unchanged', size=SMALL, color=GRAY)
    arrow(axes, (BATCH + 0.45, FULL), (NETWORK - 0.85, FULL))
    draw_network(axes, FULL, LAYERS)
    write(axes, NETWORK, FULL + 0.52, 'full network', color=BLUE)
    write(axes, NETWORK, FULL - 0.53, 'updates the BatchNorm statistics', size=SMALL, color=GRAY)
    arrow(axes, (NETWORK + 0.75, FULL), (PREDICTION - 0.4, FULL))
    draw_prediction(axes, FULL, (0.1, 0.42, 0.16, 0.06))
    arrow(axes, (PREDICTION + 0.4, FULL), (LOSS - 0.72, FULL))
    box(axes, LOSS, FULL, 'cross-entropy\nwith the labels', BLUE)


def draw_subnet(axes: Axes, y: float, kept: Sequence[int], size: float, bars: Sequence[float]) -> None:
    """Draw the row of a sub-network, which learns from the full network's prediction."""
    axes.plot((FORK, FORK), (FULL, y), color=INK, linewidth=1.3, solid_capstyle='round')
    arrow(axes, (FORK, y), (INPUT - 0.32, y))
    draw_batch(axes, INPUT, y, 0.5 * size)
    arrow(axes, (INPUT + 0.36, y), (NETWORK - 0.85, y))
    draw_network(axes, y, kept)
    arrow(axes, (NETWORK + 0.75, y), (PREDICTION - 0.4, y))
    draw_prediction(axes, y, bars)
    arrow(axes, (PREDICTION + 0.4, y - 0.12), (LOSS - 0.72, y - 0.12))
    box(axes, LOSS, y, 'KL divergence', ORANGE)


def draw_captions(axes: Axes) -> None:
    """Say what the rows of the sub-networks are."""
    write(axes, NETWORK, SUBNETS[0] + 0.48, 'sub-networks', color=BLUE)
    for x, text in ((INPUT, 'resized or rotated\nat random'),
                    (NETWORK, 'the first channels of each layer,\nweights shared')):
        write(axes, x, SUBNETS[-1] - 0.63, text, size=SMALL, color=GRAY)


def draw_soft_target(axes: Axes) -> None:
    """Draw the dashed line from the full network's prediction to the losses of the sub-networks."""
    turn, style = FULL - 0.78, {'color': ORANGE, 'linewidth': 1.6, 'linestyle': (0, (4, 2.5))}
    axes.plot((PREDICTION, PREDICTION, RAIL, RAIL), (FULL - 0.3, turn, turn, SUBNETS[-1] + 0.12), **style)
    for y in SUBNETS:
        arrow(axes, (RAIL, y + 0.12), (LOSS - 0.72, y + 0.12), color=ORANGE, linestyle=(0, (4, 2.5)))
    write(axes, RAIL + 0.1, turn, 'soft target, no gradient', size=SMALL, color=ORANGE, ha='left')


def draw_update(axes: Axes) -> None:
    """Draw how the losses become one update."""
    middle = (FULL + SUBNETS[-1]) / 2
    for y in (FULL, *SUBNETS):
        arrow(axes, (LOSS + 0.72, y), (UPDATE - 0.55, y))
    patch = FancyBboxPatch(
        (UPDATE - 0.52, SUBNETS[-1] - 0.3), 1.04, FULL - SUBNETS[-1] + 0.6, boxstyle='round,pad=0,rounding_size=0.08',
        facecolor='#f5f7fa', edgecolor=INK, linewidth=1.3)
    axes.add_patch(patch)
    write(axes, UPDATE, middle + 0.95, 'sum of\nall losses')
    arrow(axes, (UPDATE, middle + 0.65), (UPDATE, middle + 0.3))
    write(axes, UPDATE, middle, 'one\nbackward')
    arrow(axes, (UPDATE, middle - 0.3), (UPDATE, middle - 0.65))
    write(axes, UPDATE, middle - 0.95, 'one\nupdate')


def draw_inference(axes: Axes) -> None:
    """Draw what is left at inference."""
    axes.plot((0.2, WIDTH - 0.2), (INFERENCE + 0.4,) * 2, color=PALE, linewidth=1)
    write(axes, 0.2, INFERENCE, 'At inference', weight='bold', ha='left')
    draw_picture(axes, INPUT, INFERENCE, 0.42)
    arrow(axes, (INPUT + 0.36, INFERENCE), (NETWORK - 0.85, INFERENCE))
    draw_network(axes, INFERENCE, LAYERS, cell=0.055)
    arrow(axes, (NETWORK + 0.75, INFERENCE), (PREDICTION - 0.4, INFERENCE))
    draw_prediction(axes, INFERENCE, (0.08, 0.46, 0.12, 0.08))
    write(axes, RAIL + 0.1, INFERENCE, 'only the full network runs', ha='left')


def draw_batch(axes: Axes, x: float, y: float, side: float) -> None:
    """Draw a stack of pictures."""
    for shift in (0.08, 0.04, 0.0):
        draw_picture(axes, x + shift - 0.04, y + shift - 0.04, side)


def draw_picture(axes: Axes, x: float, y: float, side: float) -> None:
    """Draw a landscape as a stand-in for an image."""
    left, bottom = x - side / 2, y - side / 2
    axes.add_patch(Rectangle((left, bottom), side, side, facecolor='#e3effa', edgecolor='none'))
    axes.add_patch(Circle((left + 0.72 * side, bottom + 0.72 * side), 0.11 * side, facecolor='#f0b429'))
    for peaks, color in ((((0, 0), (0, 0.35), (0.35, 0.68), (0.75, 0)), '#5f9ea0'),
                         (((0.3, 0), (0.72, 0.46), (1, 0.22), (1, 0)), '#3f7d6e')):
        axes.add_patch(Polygon([(left + side * a, bottom + side * b) for a, b in peaks], facecolor=color))
    axes.add_patch(Rectangle((left, bottom), side, side, facecolor='none', edgecolor=INK, linewidth=0.9))


def draw_network(axes: Axes, y: float, kept: Sequence[int], cell: float = CELL) -> None:
    """Draw layers as columns of channels; those that are not kept are pale."""
    columns = [NETWORK - 0.6 + 0.4 * index for index in range(len(LAYERS))]
    tops = [y + cell * channels / 2 for channels in LAYERS]
    for index in range(len(LAYERS) - 1):
        start, end = columns[index] + 0.07, columns[index + 1] - 0.07
        axes.add_patch(Polygon(
            [(start, tops[index]), (end, tops[index + 1]), (end, tops[index + 1] - cell * kept[index + 1]),
             (start, tops[index] - cell * kept[index])], facecolor=BLUE, alpha=0.15, edgecolor='none'))
    for x, top, channels, count in zip(columns, tops, LAYERS, kept):
        for channel in range(channels):
            is_kept = channel < count
            axes.add_patch(Rectangle(
                (x - 0.07, top - cell * (channel + 1)), 0.14, cell, facecolor=BLUE if is_kept else 'white',
                edgecolor='white' if is_kept else PALE, linewidth=0.7, zorder=2 if is_kept else 1.5))


def draw_prediction(axes: Axes, y: float, heights: Sequence[float]) -> None:
    """Draw the probabilities of the classes as bars."""
    bottom = y - 0.22
    axes.plot((PREDICTION - 0.3, PREDICTION + 0.3), (bottom, bottom), color=INK, linewidth=0.9)
    for index, height in enumerate(heights):
        axes.add_patch(Rectangle((PREDICTION - 0.26 + 0.14 * index, bottom), 0.1, height, facecolor=GRAY))


def box(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    """Draw a box with a text."""
    axes.add_patch(FancyBboxPatch(
        (x - 0.69, y - 0.28), 1.38, 0.56, boxstyle='round,pad=0,rounding_size=0.08', facecolor='white',
        edgecolor=color, linewidth=1.5))
    write(axes, x, y, text, size=FONT - 0.5)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK, **style) -> None:
    """Draw a straight arrow."""
    axes.add_patch(FancyArrowPatch(
        start, end, arrowstyle='-|>', mutation_scale=11, shrinkA=0, shrinkB=0, color=color, linewidth=1.3, **style))


def write(axes: Axes, x: float, y: float, text: str, size: float = FONT, color: str = INK, **style) -> None:
    """Write a text, centered unless `ha` says otherwise."""
    axes.text(x, y, text, **{'fontsize': size, 'color': color, 'ha': 'center', 'va': 'center', **style})


if __name__ == '__main__':
    draw()
