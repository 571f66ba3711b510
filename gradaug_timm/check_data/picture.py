"""The picture of a data check: samples of each class, and histograms of classes and sizes."""
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from ..data.class_names import class_names, title_of
from ..files import written_aside
from .report import Report
from .split import DRAWN, Split

CLASSES = 8  # of which samples are drawn
BARS = 40  # classes in the histogram
THUMBNAIL = 96  # pixels
STREAMED = 2000  # images of a stream among which samples are searched


def draw(report: Report, path: str, dataset: Dataset | None = None) -> None:
    """Draw the picture of a report.

    Args:
        report: The report.
        path: The file, in PNG format.
        dataset: The data set of the first split, of images and labels; None: no samples.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    rows = [] if dataset is None or not report.splits else list(sample_rows(report.splits[0], dataset))
    with rc_context({'text.parse_math': False}):  # a $ in a name does not start a formula
        figure = Figure(figsize=(12, 4 + 1.1 * len(rows)), layout='constrained')
        FigureCanvasAgg(figure)
        heights = [1.1 * len(rows), 4] if rows else [4]
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        if rows:
            _draw_samples(parts[0], rows, report)
        classes, sizes = parts[-1].subplots(1, 2, width_ratios=(3, 2))
        _draw_classes(classes, report)
        _draw_sizes(sizes, report.splits)
        with written_aside(path) as partial:
            figure.savefig(partial, dpi=100, format='png')


def sample_rows(split: Split, dataset: Dataset) -> Iterator[tuple[str, list[Image.Image]]]:
    """Yield the name and some images of the first, the largest and the smallest classes, in the order of labels."""
    names = class_names(dataset)
    by_size = sorted(split.examples, key=lambda label: -split.labels[label])
    chosen = sorted({*by_size[:CLASSES // 2], *by_size[len(by_size) - CLASSES // 2:]})
    found = _streamed_images(dataset, chosen) if isinstance(dataset, IterableDataset) else {
        label: [dataset[index][0] for index in split.examples[label]] for label in chosen}
    for label in chosen:
        if found.get(label):
            yield f'{title_of(label, names)} ({split.labels[label]:,})', found[label]


def _streamed_images(dataset: IterableDataset, labels: list[int]) -> dict[int, list[Image.Image]]:
    found: dict[int, list[Image.Image]] = {}
    for number, (image, target) in enumerate(dataset):
        wanted = np.atleast_1d(np.asarray(target)).tolist()
        for label in {*wanted} & {*labels}:
            if len(found.setdefault(label, [])) < DRAWN:
                found[label].append(image)
        if number >= STREAMED or sum(map(len, found.values())) == DRAWN * len(labels):
            break
    return found


def _draw_samples(figure: Any, rows: list[tuple[str, list[Image.Image]]], report: Report) -> None:
    figure.suptitle(f'{report.splits[0].name}: samples of classes (number of {report.counted})', fontsize=9)
    panels = figure.subplots(len(rows), DRAWN, squeeze=False)
    for row, (title, images) in zip(panels, rows):
        for panel in row:
            panel.axis('off')
        for panel, image in zip(row, images):
            panel.imshow(_thumbnail(image), cmap='gray')
        row[0].set_title(title[:40], fontsize=7, loc='left')


def _thumbnail(image: Image.Image) -> np.ndarray:
    small = image.convert('RGB' if image.mode not in ('L', '1') else 'L')
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(small)


def _draw_classes(axis: Any, report: Report) -> None:
    """Draw bars for classes, or, if there are too many, a histogram of their sizes."""
    names = list(dict.fromkeys(name for split in report.splits for name in split.classes))
    what = report.counted
    if len(names) > BARS:
        axis.hist([list(split.classes.values()) for split in report.splits], bins=30,
                  label=[split.name for split in report.splits])
        axis.set(xlabel=f'{what} of a class', ylabel='classes')
    else:
        width = 0.8 / max(1, len(report.splits))
        for number, split in enumerate(report.splits):
            places = [place + number * width for place in range(len(names))]
            axis.bar(places, [split.classes.get(name, 0) for name in names], width, align='edge', label=split.name)
        axis.set_xticks([place + 0.4 for place in range(len(names))], [name[:20] for name in names], rotation=90,
                        fontsize=7)
        axis.set_ylabel(what)
    axis.set_title(f'{what} by class', fontsize=9)
    if report.splits:
        axis.legend(fontsize=7)


def _draw_sizes(axis: Any, splits: list[Split]) -> None:
    """Draw a histogram of the square roots of the images' areas."""
    sides: list[Counter[float]] = [Counter() for _ in splits]
    for found, split in zip(sides, splits):
        for (width, height), number in split.sizes.items():
            found[(width * height) ** 0.5] += number
    axis.hist([list(found) for found in sides], bins=30, weights=[list(found.values()) for found in sides],
              label=[split.name for split in splits])
    axis.set(xlabel='square root of width x height, in pixels', ylabel='images')
    axis.set_title('sizes of images', fontsize=9)
