"""The command line of detection training: flags of the data and the detector, and the flags of train.py."""
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..cli import flag
from ..evaluation.network import file_problem
from ..evaluation.trained import weights_in
from ..flags import Role, Settings, SettingsParser, derived, keywords, needs, setting, switch, toggle
from ..training.arguments.checks import run_problems, schedule_problems
from ..training.arguments.parsing import settings_parser
from ..training.arguments.settings import LoopSettings
from ..training.arguments.values import COUNT, NATURAL, PROBABILITY
from .coco_metrics import FIGURES
from .detectors import ANCHOR_SIZES, KINDS
from .pyramid import CHANNELS, LEVELS
from .task import TARGETS

CHANNELS_OF_IMAGES = 3
DEFAULT_OUTPUT = './output/detection'
UNSUPPORTED = {
    'channels_last': 'images have different sizes',
    'torchcompile': 'the number of regions changes from batch to batch',
    'model_dtype': 'use --amp',
    'save_images': 'images have different sizes; see gradaug_timm.detection.validate --pictures',
    'tta': 'it averages the logits of crops',
    'gradaug_budget': 'only the cost of classification can be estimated',
    'layer_decay': 'timm does not define the layers of detectors',
}


@dataclass(frozen=True, kw_only=True)
class CocoSettings(Settings, title='data'):
    """Images and annotations in COCO's format."""

    data: str | None = setting(
        None, 'folder of the data; --data-dir is the newer spelling', positional=True, nargs='?', metavar='DIR',
        role=Role.PLACE)
    data_dir: str | None = setting(
        None, 'folder with annotations/instances_SPLIT.json and images in SPLIT/', metavar='DIR', role=Role.PLACE)
    train_split: str = setting('train2017', 'split to train on (default: train2017)', metavar='NAME')
    val_split: str = setting('val2017', 'split to validate on (default: val2017)', metavar='NAME', role=Role.JUDGED)
    batch_size: int = setting(
        2, 'images per process and batch (default: 2)', flags=('-b',), type=NATURAL, metavar='N')
    hflip: float = setting(0.5, 'probability of left-right flips (default: 0.5)', type=PROBABILITY, metavar='P')
    min_size: tuple[int, ...] = setting(
        (800,), 'length of the shorter side in pixels; of several, training draws one and validation uses the last',
        type=NATURAL, nargs='+', metavar='N')
    strict_annotations: bool = switch(
        'reject annotation files with objects or images that can\'t be used, such as boxes without area, which are '
        'otherwise left out and named', role=Role.PLACE)
    max_size: int = setting(
        1333, 'largest length of the longer side in pixels (default: 1333)', type=NATURAL, metavar='N')


@dataclass(frozen=True, kw_only=True)
class DetectorSettings(Settings, title='detector'):
    """The detector, the network in it, and the initial weights."""

    detector: str = setting(
        'mask_rcnn', 'kind of detector: mask_rcnn for boxes and masks, faster_rcnn for boxes only',
        choices=tuple(KINDS))
    model: str = setting(
        'resnet50',
        'backbone: any timm model with feature maps, or gradaug_NAME to train with GradAug (default: resnet50)',
        metavar='NAME', role=Role.COMPARED)
    model_kwargs: dict[str, Any] = keywords('further arguments of the backbone')
    pretrained: bool = switch('start from the pretrained weights of timm', role=Role.START)
    checkpoint: str | None = setting(
        None, 'start from the weights of a classifier, such as a checkpoint of train.py', metavar='FILE',
        role=Role.START)
    freeze_stages: int | None = setting(
        None, f'freeze the first N stages, stem included; at most {LEVELS} (default: 1 with initial weights, else 0)',
        type=COUNT, metavar='N')
    freeze_statistics: bool | None = toggle(
        'normalise the full network by the running statistics of the initial weights (default: on with initial '
        'weights)')
    sync_bn: bool = switch('compute batch statistics over all processes')
    gradaug_targets: str = setting(
        'truth',
        'targets of sub-networks: the annotated objects, or the predictions of the full network for its regions',
        choices=TARGETS, role=Role.COMPARED, idle=needs('gradaug'))
    pyramid_channels: int = setting(
        CHANNELS, f'channels of the feature pyramid and of the mask head (default: {CHANNELS})', type=NATURAL,
        metavar='N')
    anchor_sizes: tuple[int, ...] = setting(
        ANCHOR_SIZES,
        f'size in pixels of the anchors of each feature map; use smaller ones for smaller images (default: '
        f'{ANCHOR_SIZES})',
        type=NATURAL, nargs='+', metavar='N')
    detector_kwargs: dict[str, Any] = keywords(
        'further arguments of the detector in torchvision, such as box_batch_size_per_image=128')


@dataclass(frozen=True, kw_only=True)
class DetectionSettings(CocoSettings, DetectorSettings, LoopSettings):
    """The settings of training a detector.

    Args:
        categories: The ids of the categories in the data set, in the order of labels; filled in later.
    """

    categories: tuple[int | str, ...] = derived(())


def build_parser() -> SettingsParser:
    """Return a new parser of detection training."""
    return settings_parser(
        DetectionSettings,
        resolve,
        prog='python -m gradaug_timm.detection.train',
        usage='%(prog)s [DIR] [-c FILE...] [flags]',
        description='Train Faster R-CNN or Mask R-CNN on data in COCO format, with or without GradAug.',
    )


def resolve(args: DetectionSettings) -> DetectionSettings:
    """Return the settings, with those that follow from others filled in.

    Raises:
        ValueError: Some settings exclude each other; the message names all problems.
    """
    begins_with_weights = args.pretrained or bool(args.checkpoint)
    completed = replace(
        args,
        data_dir=args.data_dir or args.data,
        checkpoint=_weights(args.checkpoint),
        output=args.output or DEFAULT_OUTPUT,
        gradaug=args.model.startswith('gradaug_') if args.gradaug is None else args.gradaug,
        eval_metric=args.eval_metric or 'box_ap',
        freeze_stages=int(begins_with_weights) if args.freeze_stages is None else args.freeze_stages,
        freeze_statistics=begins_with_weights if args.freeze_statistics is None else args.freeze_statistics,
    )
    found = list(problems(completed))
    if found:
        raise ValueError('; '.join(found))
    return completed


def _weights(checkpoint: str | None) -> str | None:
    """Return the best weights of a run if the checkpoint is the folder of one."""
    return checkpoint and (weights_in(checkpoint, use_ema=False) or checkpoint)


def problems(args: DetectionSettings) -> Iterator[str]:
    """Yield one line for each problem of the settings."""
    if importlib.util.find_spec('faster_coco_eval') is None:
        yield 'detection needs the package faster-coco-eval: pip install "gradaug_timm[detection]"'
    if args.data and args.data != args.data_dir:
        yield f'the folder of the data is given twice: {args.data} and --data-dir {args.data_dir}'
    if not args.data_dir:
        yield '--data-dir is missing; give the folder of a data set in COCO format'
    for name, reason in UNSUPPORTED.items():
        if getattr(args, name):
            yield f'{flag(name)} is not supported in detection: {reason}'
    if args.pretrained and args.checkpoint:
        yield '--pretrained and --checkpoint exclude each other; use one of them'
    if args.checkpoint and (problem := file_problem(args.checkpoint)):
        yield f'--checkpoint {problem}'
    if args.freeze_stages > LEVELS:
        yield f'--freeze-stages {args.freeze_stages} must be at most {LEVELS}'
    if max(args.min_size) > args.max_size:
        yield f'--min-size {max(args.min_size)} must be at most --max-size {args.max_size}'
    if len(args.anchor_sizes) != len(ANCHOR_SIZES):
        yield f'--anchor-sizes must have {len(ANCHOR_SIZES)} numbers, not {len(args.anchor_sizes)}'
    kinds = ('box', 'mask') if args.detector == 'mask_rcnn' else ('box',)
    metrics = [f'{kind}_{figure}' for kind in kinds for figure in FIGURES]
    if args.eval_metric not in metrics:
        yield f'--eval-metric {args.eval_metric} must be one of {", ".join(metrics)}'
    channels = args.model_kwargs.get('in_chans', CHANNELS_OF_IMAGES)
    if channels != CHANNELS_OF_IMAGES:
        yield f'--model-kwargs in_chans={channels} is not supported in detection: all images are read in RGB'
    if args.sync_bn and args.freeze_statistics:
        yield '--sync-bn and --freeze-statistics exclude each other; use one of them'
    yield from schedule_problems(args)
    yield from run_problems(args)
