"""Trains detectors: python -m gradaug_timm.detection.train --help."""
import argparse
from functools import partial

import torch
from timm.data import resolve_model_data_config
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.utils import random_seed
from torch import nn

from ..settings import GradAugSettings
from ..training.arguments import given_settings, parse_arguments
from ..training.checkpoints import Checkpoints
from ..training.cost import RelativeCost
from ..training.folder import open_folder, resume_path
from ..training.gradaug import describe
from ..training.host import Host, Precision
from ..training.main import train
from ..training.preparation import (
    Run,
    advance_schedule,
    create_optimizer,
    load_checkpoint,
    open_records,
    restore,
    starting_position,
    wrap,
)
from ..training.record import network_facts, training_images
from ..training.resuming import check_continues, check_exact
from ..training.schedules import restore_scheduler
from ..training.tasks import loss_scale
from ..training.trainer import Trainer, updates_per_epoch
from .arguments import build_parser, complete, problems
from .building import build_detector
from .coco import read_coco
from .detectors import has_masks
from .evaluate import evaluate
from .loaders import build_loaders
from .rescale import STRIDE
from .task import DetectionTask, GradAugDetectionTask


def main(argv: list[str] | None = None) -> None:
    """Trains as the command line says.

    Raises:
        SystemExit: As for train.py.
    """
    parser = build_parser()
    train(parser, lambda: parse_arguments(parser, argv, complete=complete, problems=problems), prepare)


def prepare(args: argparse.Namespace, text: str, host: Host) -> Run:
    """Detector, data, task, optimizer and folder of a run, as far as the checkpoint that it resumes.

    Args:
        args: The flags; learning rate and categories are filled in.
        text: The flags as they were given, for `args.yaml`.
        host: The device and the processes.

    Raises:
        ValueError: Flags, network, data and files don't fit each other.
    """
    precision = Precision.from_args(args, host.device)
    torch.backends.cudnn.benchmark = False  # it would tune kernels for every batch's size
    random_seed(args.seed, host.rank)
    masks = args.detector == 'mask_rcnn'
    training, validation = (
        read_coco(args.data_dir, split, masks=masks) for split in (args.train_split, args.val_split))
    args.categories, args.num_classes = training.categories, len(training.categories)
    detector = build_detector(args)
    if args.sync_bn and host.distributed:
        detector = nn.SyncBatchNorm.convert_sync_batchnorm(detector)
    detector = detector.to(host.device)
    pyramid = detector.backbone.pyramid
    size = input_size(args)
    settings = settings_for(args) if args.gradaug else None
    cost = RelativeCost(pyramid, size, batch=args.batch_size, epochs=args.epochs)(settings) if (
        settings is not None and settings.subnets) else 1.
    if settings is not None:
        describe(settings, cost)
    facts = {**network_facts(pyramid, size, settings, cost),
             'parameters': sum(parameter.numel() for parameter in detector.parameters())}
    loaders = build_loaders(args, training, validation, host, masks=masks)
    scaler = precision.create_scaler()
    task = _build_task(args, detector, settings, host, scaler)
    optimizer = create_optimizer(args, task, loaders, host)
    resumed_from = resume_path(args)
    state = load_checkpoint(resumed_from) if resumed_from else {}
    start = starting_position(args, state)
    origin = {'world_size': host.world_size, 'training_images': training_images(loaders.train)}
    if resumed_from:
        check_continues(args, settings, settings_for, resumed_from, state)
        check_exact(args, origin, start, resumed_from, state)
    restore(args, task, optimizer, scaler, resumed_from, host)
    eval_network = wrap(args, task, host)
    folder = open_folder(args, args.max_size, resumed_from) if host.primary else None
    updates = updates_per_epoch(len(loaders.train), args.grad_accum_steps)
    scheduler, epochs = create_scheduler_v2(
        optimizer, **scheduler_kwargs(args, decreasing_metric=False), updates_per_epoch=updates)
    saver = Checkpoints(
        model=task.get_trainable_module(),
        optimizer=optimizer,
        args=args,
        amp_scaler=scaler,
        checkpoint_dir=folder.path,
        decreasing=False,
        max_history=args.checkpoint_hist,
        task=task,
        scheduler=scheduler,
        config=resolve_model_data_config(pyramid.body),
        facts=origin,
    ) if folder else None
    trainer = Trainer(args, host, precision, task, loaders, optimizer, scaler, scheduler, saver, folder)
    run = Run(
        trainer,
        eval_network,
        args.eval_metric,
        start,
        min(epochs, args.stop_epoch or epochs),
        None,
        state.get('progress') if args.start_epoch is None else None,
        partial(evaluate, coco=validation, kinds=('box', 'mask') if has_masks(detector) else ('box',)),
        facts,
        resumed_from,
    )
    advance_schedule(trainer, start)
    if not args.no_resume_opt:
        restore_scheduler(scheduler, state.get('scheduler'))
    if folder is not None:
        open_records(args, text, facts, run, resumed_from, state)
    return run


def input_size(args: argparse.Namespace) -> tuple[int, int, int]:
    """Channels, height and width of the largest batch, as the network's strides want them."""
    return 3, *(-(-side // STRIDE) * STRIDE for side in (max(args.min_size), args.max_size))


def settings_for(args: argparse.Namespace) -> GradAugSettings:
    """The flags, and for those that aren't given the preset of ImageNet's images."""
    return GradAugSettings.preset(args.max_size, **{'seed': args.seed, **given_settings(args)})


def _build_task(args, detector: nn.Module, settings: GradAugSettings | None, host: Host, scaler) -> DetectionTask:
    common = dict(freezes_statistics=args.freeze_statistics, device=host.device, verbose=host.primary)
    if settings is None:
        return DetectionTask(detector, **common)
    return GradAugDetectionTask(
        detector, settings=settings, targets=args.gradaug_targets, loss_scale=loss_scale(scaler), **common)


if __name__ == '__main__':
    main()
