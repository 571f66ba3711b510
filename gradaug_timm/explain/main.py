"""The command: networks from checkpoints, images from a folder, and one picture of all maps."""
import copy
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch import nn

from ..data import input_mode
from ..data.by_name import places_of
from ..data.class_names import listed, title_of
from ..data.folders import image_extensions, is_image, visible_files
from ..data.images import read_image as read_at_depth
from ..elastic import extract
from ..evaluation.subnets import choose_subnets
from ..evaluation.trained import Trained
from ..files import written_aside
from ..threads import use_threads
from .arguments import ExplainSettings, build_parser
from .maps import activation_map

PANEL = 2.2  # inches


@dataclass
class Column:
    """A network, and how it sees images."""

    title: str
    network: nn.Module
    config: dict[str, Any]
    class_names: tuple[str, ...] | None = None
    mode: str = 'RGB'  # in which it reads images
    several: bool = False  # whether an image may have several labels
    label: int | None = None  # of the class whose map is drawn; None for the predicted class


def main(argv: list[str] | None = None) -> None:
    """Run the command; SystemExit(2) with one line on stderr if it can't be carried out."""
    parser = build_parser()
    settings = parser.parse_settings(argv)
    use_threads(settings.threads)
    try:
        paths = find_images(settings.images, settings.limit)
        columns = [column for path in settings.checkpoint for column in _columns(settings, path)]
        draw(settings, paths, columns)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{settings.output}: {len(paths)} images, {len(columns)} networks')


def find_images(path: str, limit: int) -> list[str]:
    """Return the image, or the first images of a folder and its folders, by name.

    Raises:
        ValueError: There are none.
    """
    if os.path.isfile(path):
        return [path]
    extensions = image_extensions()
    found = sorted(each for each in visible_files(path) if is_image(each, extensions))
    if not found:
        raise ValueError(f'--images {path} holds no images ({", ".join(extensions)})')
    return found[:limit]


def _columns(args: ExplainSettings, path: str) -> list[Column]:
    """Return the network of a checkpoint, and its sub-networks."""
    trained = args.open(path)
    network, config, name = trained.network, trained.config, '/'.join(path.split(os.sep)[-2:])
    mode = input_mode(trained.settings.get('input_img_mode'), config['input_size'][0])
    several = trained.settings.get('task') == 'multilabel'
    about = config, trained.class_names, mode, several, None if args.label is None else _find_class(args.label, trained)
    columns = [Column(name, network, *about)]
    if args.width:
        whole = replace(trained, network=copy.deepcopy(network))
        columns += [Column(f'{name}\nwidth {subnet.width:g}', extract(whole.network, subnet).eval(), *about)
                    for subnet in choose_subnets(whole, args.width, args.divisor)]
    return columns


def _find_class(text: str, trained: Trained) -> int:
    """Return the label of a class, by its name or its number.

    Raises:
        ValueError: The network has no such class.
    """
    places, classes = places_of(trained.class_names or ()), trained.network.num_classes
    if text in places:
        return places[text]
    if text.isdecimal() and int(text) < classes:
        return int(text)
    known = f' or one of {listed(places)}' if places else ''
    raise ValueError(f'--class {text} must be a number below {classes}, the number of classes of {trained.path}{known}')


def read_image(path: str, mode: str) -> Image.Image:
    """Read an image.

    Raises:
        ValueError: It is damaged.
    """
    try:
        return read_at_depth(path, mode)
    except Exception as error:  # image libraries raise anything on a broken file
        raise ValueError(f'{path} can\'t be read as an image: {error}') from error


def draw(args: ExplainSettings, paths: list[str], columns: list[Column]) -> None:
    """Write the picture: in each row the image, and the map of each network over it."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    size = PANEL * (len(columns) + 1), (PANEL + 0.4) * len(paths)
    figure, panels = pyplot.subplots(len(paths), len(columns) + 1, figsize=size, squeeze=False, layout='constrained')
    for panel in panels.flat:
        panel.axis('off')
    for row, path in zip(panels, paths):
        for place, column in enumerate(columns, 1):
            shown, heat, text = explain(path, column, method=args.method)
            if place == 1:
                row[0].imshow(shown)
                row[0].set_title('/'.join(path.split(os.sep)[-2:]), fontsize=6)
            row[place].imshow(shown)
            row[place].imshow(heat, cmap='jet', alpha=args.alpha, vmin=0, vmax=1)
            row[place].set_title(f'{column.title}\n{text}', fontsize=6)
    with written_aside(args.output) as partial:
        figure.savefig(partial, dpi=120, format='png')
    pyplot.close(figure)


def explain(path: str, column: Column, *, method: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return what the network sees of an image, [H, W, 3] in 0 to 1; the map, [H, W]; and the prediction."""
    config = column.config
    image = read_image(path, column.mode)
    transform = create_transform(
        config['input_size'], interpolation=config['interpolation'], mean=config['mean'], std=config['std'],
        crop_pct=config['crop_pct'], crop_mode=config['crop_mode'])
    seen = transform(image)[None]
    with torch.no_grad():
        logits = column.network(seen)
    probability, predicted = (logits.sigmoid() if column.several else logits.softmax(1))[0].max(0)
    heat = activation_map(
        column.network, seen, label=int(predicted) if column.label is None else column.label, method=method)
    mean, std = (torch.tensor(config[name]).view(-1, 1, 1) for name in ('mean', 'std'))
    pixels = (seen[0] * std + mean).clamp(0, 1)
    pixels = pixels[:3 if len(pixels) > 2 else 1].expand(3, -1, -1).permute(1, 2, 0)
    return pixels.numpy(), heat, f'{title_of(int(predicted), column.class_names)}: {float(probability):.2f}'
