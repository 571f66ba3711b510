"""COCO's figures of trained detectors, and pictures: python -m gradaug_timm.detection.validate --help."""
import csv
import itertools
import json
import os

import torch
from torch import nn

from ..cli import table
from ..devices import pick_device
from ..files import replacing
from ..training.processes import Process
from .arguments import DetectionSettings
from .building import build_detector
from .coco import Coco, CocoImages, read_coco
from .coco_metrics import FIGURES, coco_figures
from .contents import read_detector
from .evaluate import detect
from .loaders import as_lists, validation_loader
from .pictures import draw, save_picture
from .validation_arguments import DetectionValidationSettings, build_parser

HEADINGS = ('AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large',
            'AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large')


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Evaluate as the command line says.

    Returns:
        The figures by name, such as 'box_ap'.

    Raises:
        SystemExit: With 2 and one line on wrong flags, files or data.
    """
    parser = build_parser()
    args = parser.parse_settings(argv)
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
    """Run `main` as a program, whose exit status is not what `main` returns."""
    main()


def _prepare(args: DetectionValidationSettings) -> tuple[nn.Module, DetectionSettings, Coco, torch.device]:
    contents = read_detector(args.checkpoint)
    trained = contents.settings
    coco = read_coco(args.data_dir, args.split, masks=trained.detector == 'mask_rcnn')
    if tuple(coco.categories) != trained.categories:
        raise ValueError(f'{coco.path} has other categories than {args.checkpoint} was trained on')
    network = build_detector(trained, with_weights=False)
    averaged = None if args.raw_weights else contents.averages
    network.load_state_dict(contents.weights if averaged is None else averaged)
    device = pick_device(args.device)
    return network.to(device).eval(), trained, coco, device


def _evaluate(
        args: DetectionValidationSettings,
        network: nn.Module,
        trained: DetectionSettings,
        coco: Coco,
        device: torch.device,
) -> dict[str, float]:
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
    """Write the figures as JSON, or as CSV with a row for each."""
    with replacing(path, newline='') as file:
        if path.endswith('.json'):
            json.dump(figures, file, indent=2)
        else:
            csv.writer(file).writerows([('figure', 'percent'), *figures.items()])


@torch.inference_mode()
def _draw_some(
        args: DetectionValidationSettings,
        network: nn.Module,
        images: CocoImages,
        device: torch.device,
) -> None:
    for index in itertools.islice(range(len(images)), args.picture_images):
        image, _ = images[index]
        output = {name: value.cpu() for name, value in network([image.to(device)])[0].items()}
        picture = draw(image, output, images.coco.names, score=args.score)
        print(save_picture(picture, args.pictures, images.images[index]['file_name']))


def figures_table(figures: dict[str, float]) -> list[str]:
    """Return lines with a row for boxes and one for masks."""
    rows = [['', *HEADINGS]]
    for kind in ('box', 'mask'):
        values = [figures.get(f'{kind}_{name}') for name in FIGURES]
        if None not in values:
            rows.append([kind, *('none' if value < 0 else f'{value:.1f}' for value in values if value is not None)])
    return table(rows, figures=True)


if __name__ == '__main__':
    command()
