"""Training of detectors: python -m gradaug_timm.detection.train --help."""
from dataclasses import replace
from functools import partial

import torch
from timm.data import resolve_model_data_config
from timm.utils import random_seed
from torch import nn

from ..task.cost import RelativeCost
from ..task.settings import GradAugSettings
from ..training.arguments import given_settings
from ..training.building.gradaug import describe
from ..training.building.tasks import loss_scale
from ..training.main import run_command
from ..training.outputs.run_json import network_facts
from ..training.prepare import Parts, assemble
from ..training.processes import Precision, Process
from ..training.run import Run
from .arguments import DetectionSettings, build_parser
from .building import build_detector
from .check_data import check_of
from .coco import Coco, check_trainable, read_coco
from .detectors import has_masks
from .evaluate import evaluate
from .images import HEADERS
from .loaders import build_loaders
from .rescale import STRIDE
from .task import DetectionTask, GradAugDetectionTask


def main(argv: list[str] | None = None) -> None:
    """Train a detector as the command line describes.

    Raises:
        SystemExit: With the same codes as train.py.
    """
    run_command(build_parser(), argv, prepare)


def prepare(args: DetectionSettings, text: str, process: Process) -> Run:
    """Build the run of a detector: network, data, task, optimizer and folder; restore the checkpoint to resume.

    Args:
        args: The resolved settings; the learning rate and the categories are filled in here.
        text: The settings as given by the user, for `args.yaml`.
        process: The device and the processes.

    Raises:
        ValueError: Flags, network, data and files do not fit together.
    """
    precision = Precision.from_args(args, process.device)
    torch.backends.cudnn.benchmark = False  # it would tune kernels for each new batch size
    random_seed(args.seed, process.rank)
    masks = args.detector == 'mask_rcnn'
    if args.dry_run and process.primary:
        print('\n'.join(check_of(args, limit=HEADERS)[0].lines()), end='\n\n')
    training, validation = read_splits(args, masks=masks)
    if process.primary:
        training.log_findings()
        validation.log_findings()
    args = replace(args, categories=tuple(each.key for each in training.categories),
                   num_classes=len(training.categories))
    detector = build_detector(args)
    if args.sync_bn and process.distributed:
        detector = nn.SyncBatchNorm.convert_sync_batchnorm(detector)
    detector = detector.to(process.device)
    pyramid = detector.backbone.pyramid
    size = input_size(args)
    settings = settings_for(args) if args.gradaug else None
    cost = RelativeCost(pyramid, size, batch=args.batch_size, epochs=args.epochs)(settings) if (
        settings is not None and settings.subnets) else 1.
    if settings is not None:
        describe(settings, cost)
    facts = {**network_facts(pyramid, size, settings, cost),
             'parameters': sum(parameter.numel() for parameter in detector.parameters())}
    scaler = precision.create_scaler()
    return assemble(args, text, process, Parts(
        task=_build_task(args, detector, settings, process, scaler),
        loaders=build_loaders(args, training, validation, process, masks=masks),
        precision=precision,
        scaler=scaler,
        settings=settings,
        settings_for=settings_for,
        config=resolve_model_data_config(pyramid.body),
        facts=facts,
        image_size=args.max_size,
        metric=args.eval_metric,
        evaluate=partial(evaluate, coco=validation, kinds=('box', 'mask') if has_masks(detector) else ('box',)),
    ))


def read_splits(args: DetectionSettings, *, masks: bool) -> tuple[Coco, Coco]:
    """Read the annotations of training and validation; the labels of both are those of training.

    Raises:
        ValueError: Files are missing or broken, or validation has categories that are not trained.
    """
    strict = args.strict_annotations
    training = read_coco(args.data_dir, args.train_split, masks=masks, strict=strict)
    check_trainable(training)
    return training, read_coco(
        args.data_dir, args.val_split, masks=masks, trained=training.categories, strict=strict)


def input_size(args: DetectionSettings) -> tuple[int, int, int]:
    """Return channels, height and width of the largest batch; the sides are multiples of the network's stride."""
    height, width = (-(-side // STRIDE) * STRIDE for side in (max(args.min_size), args.max_size))
    return 3, height, width


def settings_for(args: DetectionSettings) -> GradAugSettings:
    """Return the settings of GradAug: those that are given, and the preset for ImageNet's image size."""
    return GradAugSettings.preset(args.max_size, args.gradaug_preset, **{'seed': args.seed, **given_settings(args)})


def _build_task(args, detector: nn.Module, settings: GradAugSettings | None, process: Process, scaler) -> DetectionTask:
    common = dict(freezes_statistics=args.freeze_statistics, device=process.device, verbose=process.primary)
    if settings is None:
        return DetectionTask(detector, **common)
    return GradAugDetectionTask(
        detector, settings=settings, targets=args.gradaug_targets, loss_scale=loss_scale(scaler), **common)


if __name__ == '__main__':
    main()
