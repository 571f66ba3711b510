"""COCO's figures of trained detectors, and pictures: python -m gradaug_timm.detection.validate --help."""
import argparse
import csv
import importlib.util
import itertools
import json
import os

import torch
from torch import nn

from ..cli import StrictParser, file_to_write, table
from ..devices import pick_device
from ..files import read_checkpoint, replacing
from ..training.arguments.values import COUNT, NATURAL, PROBABILITY
from ..training.processes import Process
from .building import build_detector
from .coco import Coco, CocoImages, read_coco
from .coco_metrics import FIGURES, coco_figures
from .evaluate import detect
from .loaders import as_lists, validation_loader
from .pictures import draw, save_picture

HEADINGS = ('AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large',
            'AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large')


def build_parser() -> StrictParser:
    """A fresh parser."""
    parser = StrictParser(prog='python -m gradaug_timm.detection.validate', description='COCO\'s figures, in percent.')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='of gradaug_timm.detection.train')
    add = parser.add_argument_group('data').add_argument
    add('--data-dir', required=True, metavar='DIR', help='folder with annotations/instances_SPLIT.json and SPLIT/')
    add('--split', default='val2017', metavar='NAME', help='split (default: val2017)')
    add('-b', '--batch-size', type=NATURAL, default=1, metavar='N', help='images a batch (default: 1)')
    add('-j', '--workers', type=COUNT, default=2, metavar='N', help='data workers (default: 2)')
    add = parser.add_argument_group('execution').add_argument
    add('--raw-weights', action='store_true', help='the trained weights where the checkpoint has averaged ones')
    add('--device', metavar='NAME', help='cuda, cpu... (default: what is there)')
    add = parser.add_argument_group('results').add_argument
    add('--results-file', type=file_to_write(), metavar='FILE', help='write the figures to a .json or .csv')
    add('--predictions-file', type=file_to_write('.json'), metavar='FILE', help='write what is found, as COCO wants it')
    add = parser.add_argument_group('pictures').add_argument
    add('--pictures', metavar='DIR', help='write pictures of what is found there')
    add('--picture-images', type=NATURAL, default=8, metavar='N', help='how many (default: 8)')
    add('--score', type=PROBABILITY, default=0.5, metavar='S', help='lowest score that is drawn (default: 0.5)')
    return parser


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Evaluates as the command line says.

    Returns:
        The figures by name, such as 'box_ap'.

    Raises:
        SystemExit: With 2 and one line on wrong flags, files or data.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.results_file and not args.results_file.endswith(('.csv', '.json')):
        parser.error(f'--results-file {args.results_file} must end in .csv or .json')
    if importlib.util.find_spec('faster_coco_eval') is None:
        parser.error('detection needs the package faster-coco-eval: pip install "gradaug_timm[detection]"')
    try:
        network, trained, coco, device = _prepare(args)
        if args.pictures:
            os.makedirs(args.pictures, exist_ok=True)
        figures = _evaluate(args, network, trained, coco, device)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{args.checkpoint} on {coco.path}, {len(coco.images)} images:')
    print('\n'.join(figures_table(figures)))
    return figures


def command() -> None:
    """`main` as a program, whose exit status would be what it returns."""
    main()


def _prepare(args: argparse.Namespace) -> tuple[nn.Module, argparse.Namespace, Coco, torch.device]:
    state = load_detector_state(args.checkpoint)
    trained = state['args']
    coco = read_coco(args.data_dir, args.split, masks=trained.detector == 'mask_rcnn')
    if coco.categories != trained.categories:
        raise ValueError(f'{coco.path} has other categories than {args.checkpoint} was trained on')
    network = build_detector(trained, with_weights=False)
    averaged = 'state_dict_ema' in state and not args.raw_weights
    network.load_state_dict(state['state_dict_ema' if averaged else 'state_dict'])
    device = pick_device(args.device)
    return network.to(device).eval(), trained, coco, device


def load_detector_state(path: str) -> dict:
    """The content of a detector's checkpoint.

    Raises:
        ValueError: It can't be read, or is of something else.
    """
    try:
        state = read_checkpoint(path)
    except FileNotFoundError:
        raise ValueError(f'{path} is no file') from None
    except ValueError as error:
        raise ValueError(f'{path} can\'t be read: {error}') from error
    if not isinstance(state, dict) or 'detector' not in getattr(state.get('args'), '__dict__', {}):
        raise ValueError(f'{path} is no checkpoint of gradaug_timm.detection.train')
    return state


def _evaluate(args, network: nn.Module, trained, coco: Coco, device: torch.device) -> dict[str, float]:
    images = CocoImages(coco, masks=False)
    loader = validation_loader(
        images, args.batch_size, Process(device), num_workers=args.workers, collate_fn=as_lists)
    results = detect(network, loader, coco.categories)
    if args.predictions_file:
        with replacing(args.predictions_file) as file:
            json.dump(results, file)
    figures = coco_figures(coco.path, results, ('box', 'mask') if trained.detector == 'mask_rcnn' else ('box',))
    if args.results_file:
        write_figures(figures, args.results_file)
    if args.pictures:
        _draw_some(args, network, images, device)
    return figures


def write_figures(figures: dict[str, float], path: str) -> None:
    """Writes the figures as JSON, or as CSV with a row for each."""
    with replacing(path, newline='') as file:
        if path.endswith('.json'):
            json.dump(figures, file, indent=2)
        else:
            csv.writer(file).writerows([('figure', 'percent'), *figures.items()])


@torch.inference_mode()
def _draw_some(args, network: nn.Module, images: CocoImages, device: torch.device) -> None:
    for index in itertools.islice(range(len(images)), args.picture_images):
        image, _ = images[index]
        output = {name: value.cpu() for name, value in network([image.to(device)])[0].items()}
        picture = draw(image, output, images.coco.names, score=args.score)
        print(save_picture(picture, args.pictures, images.images[index]['file_name']))


def figures_table(figures: dict[str, float]) -> list[str]:
    """Lines with a row for boxes and one for masks."""
    rows = [['', *HEADINGS]]
    for kind in ('box', 'mask'):
        values = [figures.get(f'{kind}_{name}') for name in FIGURES]
        if None not in values:
            rows.append([kind, *('none' if value < 0 else f'{value:.1f}' for value in values)])
    return table(rows, figures=True)


if __name__ == '__main__':
    command()
