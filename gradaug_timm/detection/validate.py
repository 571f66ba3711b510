"""COCO's figures of trained detectors, and pictures: python -m gradaug_timm.detection.validate --help."""
import csv
import json
import os
from collections import Counter
from dataclasses import replace

import torch
from torch import nn

from ..cli import log_to_terminal, table
from ..data.class_names import listed
from ..devices import pick_device
from ..files import replacing
from ..threads import use_threads
from ..training.loop.between_steps import DataError
from ..training.processes import Process
from .arguments import DetectionSettings
from .building import build_detector
from .coco import Coco, CocoImages, read_coco, results_of
from .coco_metrics import FIGURES, Evaluation
from .contents import checkpoint_in, read_detector
from .evaluate import detect, figures_of, unread_images
from .loaders import as_lists, validation_loader
from .pictures import draw, save_picture
from .validation_arguments import DetectionValidationSettings, build_parser

HEADINGS = ('AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large',
            'AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large')
NAMED = 3  # pictures in a message


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Evaluate as the command line says.

    Returns:
        The figures by name, such as 'box_ap'.

    Raises:
        SystemExit: With 2 and one line on wrong flags, files or data.
    """
    log_to_terminal()
    parser = build_parser()
    args = parser.parse_settings(argv)
    use_threads(args.threads)
    try:
        args = replace(args, checkpoint=checkpoint_in(args.checkpoint))
        network, trained, coco, device = _prepare(args)
        if args.pictures:
            os.makedirs(args.pictures, exist_ok=True)
        evaluation, images = _evaluate(args, network, trained, coco, device)
    except (DataError, OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{args.checkpoint} on {coco.path}, {images} images:')
    print('\n'.join(figures_table(evaluation.figures)))
    print()
    print('\n'.join(names_table(coco, evaluation)))
    return evaluation.figures


def command() -> None:
    """Run `main` as a program, whose exit status is not what `main` returns."""
    main()


def _prepare(args: DetectionValidationSettings) -> tuple[nn.Module, DetectionSettings, Coco, torch.device]:
    contents = read_detector(args.checkpoint)
    trained = contents.settings
    coco = read_coco(args.data_dir, args.split, masks=trained.detector == 'mask_rcnn', trained=contents.categories,
                     strict=args.strict_annotations)
    coco.log_findings()
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
) -> tuple[Evaluation, int]:
    """Return the figures, and the number of images that they are of."""
    images = CocoImages(coco, masks=False)
    loader = validation_loader(
        images, args.batch_size, Process(device), num_workers=args.workers, collate_fn=as_lists)
    results, seen = detect(network, loader)
    if args.predictions_file:
        with replacing(args.predictions_file) as file:
            json.dump(results_of(coco, results), file)
    evaluation = figures_of(coco, results, seen, ('box', 'mask') if trained.detector == 'mask_rcnn' else ('box',))
    if args.results_file:
        write_figures(coco, evaluation, unread_images(coco, seen), args.results_file)
    if args.pictures:
        _draw_some(args, network, images, sorted(seen), device)
    return evaluation, len(seen)


def write_figures(coco: Coco, evaluation: Evaluation, unread: list[str], path: str) -> None:
    """Write the figures as JSON, or as CSV with a row for each; also those by category, and the unreadable images."""
    by_name = {f'{kind}_ap_by_category': dict(zip(coco.unique_names, values))
               for kind, values in evaluation.by_label.items()}
    with replacing(path, newline='') as file:
        if path.endswith('.json'):
            json.dump({**evaluation.figures, **by_name, 'unreadable_images': unread}, file, indent=2)
        else:
            rows = [(f'{kind}/{name}', value) for kind, values in by_name.items() for name, value in values.items()]
            csv.writer(file).writerows([('figure', 'percent'), *evaluation.figures.items(), *rows])


@torch.inference_mode()
def _draw_some(
        args: DetectionValidationSettings,
        network: nn.Module,
        images: CocoImages,
        seen: list[int],
        device: torch.device,
) -> None:
    """Draw the first images that can be read, and say which show no detection."""
    indices = {place: index for index, place in enumerate(images.places)}
    highest, empty, shown = 0., [], seen[:args.picture_images]
    for place in shown:
        image, _ = images[indices[place]]
        output = {name: value.cpu() for name, value in network([image.to(device)])[0].items()}
        scores = output['scores'].tolist()
        highest = max([highest, *scores])
        if not any(score >= args.score for score in scores):
            empty.append(images.coco.images[place].name)
        picture = draw(image, output, images.coco.names, score=args.score)
        print(save_picture(picture, args.pictures, images.coco.images[place].name))
    if empty:
        print(f'{len(empty)} of {len(shown)} pictures show no detection, because none has a score of at least '
              f'--score {args.score:g} ({listed(empty, NAMED)}); the highest score in all pictures is {highest:.2g}')


def figures_table(figures: dict[str, float]) -> list[str]:
    """Return lines with a row for boxes and one for masks."""
    rows = [['', *HEADINGS]]
    for kind in ('box', 'mask'):
        values = [figures.get(f'{kind}_{name}') for name in FIGURES]
        if None not in values:
            rows.append([kind, *('none' if value < 0 else f'{value:.1f}' for value in values if value is not None)])
    return table(rows, figures=True)


def names_table(coco: Coco, evaluation: Evaluation) -> list[str]:
    """Return lines with the average precision of each category by name, and the number of its objects."""
    counts = Counter(each.label for objects in coco.objects.values() for each in objects if not each.crowd)
    kinds = list(evaluation.by_label)
    rows = [['category', 'objects', *(f'{kind} AP' for kind in kinds)]]
    for label, name in enumerate(coco.unique_names, 1):
        values = (evaluation.by_label[kind][label - 1] for kind in kinds)
        rows.append([name, str(counts[label]), *('none' if value < 0 else f'{value:.1f}' for value in values)])
    return table(rows, figures=True)


if __name__ == '__main__':
    command()
