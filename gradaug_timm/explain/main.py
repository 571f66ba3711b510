"""The command: networks from checkpoints, images from a folder, and one picture of all maps."""
import argparse
import copy
import importlib.util
import os
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from timm.data import create_transform
from torch import nn

from ..cli import StrictParser, file_to_write
from ..elastic import extract
from ..evaluation.arguments import COUNT, NATURAL, SHARE
from ..evaluation.loading import data_config
from ..evaluation.network import create_network
from ..evaluation.residuals import scale_branches
from ..evaluation.subnets import choose_subnets
from ..extraction.arguments import add_network, as_for_validation
from ..files import written_aside
from .maps import METHODS, activation_map

ENDINGS = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
PANEL = 2.2  # inches


@dataclass
class Column:
    """A network, and how it sees images."""
    title: str
    network: nn.Module
    config: dict


def build_parser() -> StrictParser:
    """A fresh parser."""
    parser = StrictParser(
        prog='python -m gradaug_timm.explain',
        description='Draws where networks see a class: a row for each image, a column for each network.')
    parser.add_argument('checkpoint', nargs='+', metavar='CHECKPOINT', help='of train.py, or weights with --model')
    add = parser.add_argument_group('files').add_argument
    add('--images', required=True, metavar='DIR', help='an image, or a folder of images or of folders of classes')
    add('--output', required=True, type=file_to_write('.png'), metavar='FILE.png', help='picture to write')
    add('--overwrite', action='store_true', help='replace the picture where it is there already')
    add('--limit', type=NATURAL, default=8, metavar='N', help='most images (default: 8)')
    add = parser.add_argument_group('sub-networks').add_argument
    add('--width', type=SHARE, nargs='+', metavar='W',
        help='sub-networks of these widths too, with their part of the full network\'s BatchNorm statistics')
    add('--divisor', type=NATURAL, metavar='N', help='their channels are its multiples (default: as trained, else 8)')
    add = parser.add_argument_group('maps').add_argument
    add('--class', dest='label', type=COUNT, metavar='I', help='class whose map is drawn (default: the predicted one)')
    add('--method', default='gradcam', choices=tuple(METHODS), help='kind of map (default: gradcam)')
    add('--alpha', type=SHARE, default=0.5, metavar='A', help='how strongly maps cover images (default: 0.5)')
    add_network(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command; SystemExit(2) with one line on stderr where it can't be carried out."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if os.path.exists(args.output) and not args.overwrite:
        parser.error(f'--output {args.output} is there already, replace it by --overwrite')
    for name, package in (('pytorch_grad_cam', 'grad-cam'), ('matplotlib', 'matplotlib')):
        if importlib.util.find_spec(name) is None:
            parser.error(f'class activation maps need the package {package}: pip install "gradaug_timm[explain]"')
    try:
        paths = find_images(args.images, args.limit)
        columns = [column for path in args.checkpoint for column in _columns(args, path)]
        draw(args, paths, columns)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{args.output}: {len(paths)} images, {len(columns)} networks')


def find_images(path: str, limit: int) -> list[str]:
    """The image, or the first images of a folder and its folders, by name.

    Raises:
        ValueError: There is none.
    """
    if os.path.isfile(path):
        return [path]
    found = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names
                   if name.lower().endswith(ENDINGS))
    if not found:
        raise ValueError(f'--images {path} holds no images ({", ".join(ENDINGS)})')
    return found[:limit]


def _columns(args: argparse.Namespace, path: str) -> list[Column]:
    """The network of a checkpoint, and its sub-networks."""
    own = as_for_validation(argparse.Namespace(**{**vars(args), 'checkpoint': path}), widths=args.width)
    network = create_network(own)
    scale_branches(network, own)
    config, name = data_config(own, network), '/'.join(path.split(os.sep)[-2:])
    if args.label is not None and args.label >= network.num_classes:
        raise ValueError(f'--class {args.label} must be below {network.num_classes}, the classes of {path}')
    columns = [Column(name, network.eval(), config)]
    if args.width:
        whole = copy.deepcopy(network)
        columns += [Column(f'{name}\nwidth {subnet.width:g}', extract(whole, subnet).eval(), config)
                    for subnet in choose_subnets(whole, own, config)]
    return columns


def read_image(path: str, mode: str) -> Image.Image:
    """An image.

    Raises:
        ValueError: It is damaged.
    """
    try:
        with Image.open(path) as file:
            return file.convert(mode)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise ValueError(f'{path} can\'t be read as an image: {error}') from error


def draw(args: argparse.Namespace, paths: list[str], columns: list[Column]) -> None:
    """Writes the picture: in each row the image, and the map of each network over it."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    size = PANEL * (len(columns) + 1), (PANEL + 0.4) * len(paths)
    figure, panels = pyplot.subplots(len(paths), len(columns) + 1, figsize=size, squeeze=False, layout='constrained')
    for panel in panels.flat:
        panel.axis('off')
    for row, path in zip(panels, paths):
        for place, column in enumerate(columns, 1):
            shown, heat, text = explain(path, column, label=args.label, method=args.method)
            if place == 1:
                row[0].imshow(shown)
                row[0].set_title('/'.join(path.split(os.sep)[-2:]), fontsize=6)
            row[place].imshow(shown)
            row[place].imshow(heat, cmap='jet', alpha=args.alpha, vmin=0, vmax=1)
            row[place].set_title(f'{column.title}\n{text}', fontsize=6)
    with written_aside(args.output) as partial:
        figure.savefig(partial, dpi=120, format='png')
    pyplot.close(figure)


def explain(path: str, column: Column, *, label: int | None, method: str) -> tuple[np.ndarray, np.ndarray, str]:
    """What the network sees of an image, [H, W, 3] in 0 to 1; the map, [H, W]; what it predicts."""
    config = column.config
    image = read_image(path, 'RGB' if config['input_size'][0] == 3 else 'L')
    transform = create_transform(
        config['input_size'], interpolation=config['interpolation'], mean=config['mean'], std=config['std'],
        crop_pct=config['crop_pct'], crop_mode=config['crop_mode'])
    seen = transform(image)[None]
    with torch.no_grad():
        probability, predicted = column.network(seen).softmax(1)[0].max(0)
    heat = activation_map(
        column.network, seen, label=int(predicted) if label is None else label, method=method)
    mean, std = (torch.tensor(config[name]).view(-1, 1, 1) for name in ('mean', 'std'))
    pixels = (seen[0] * std + mean).clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()
    return pixels, heat, f'{int(predicted)}: {float(probability):.2f}'
