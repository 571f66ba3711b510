"""The command line of detection training: flags of data and detector, and train.py's for all else."""
import argparse
import importlib.util
import os
from collections.abc import Iterator

from ..cli import Keywords, StrictParser
from ..training.arguments.augmentation import add_averaging
from ..training.arguments.checks import run_problems, schedule_problems
from ..training.arguments.config import add_config
from ..training.arguments.gradaug import add_gradaug
from ..training.arguments.optimization import add_optimizer, add_schedule
from ..training.arguments.run import add_device, add_run
from ..training.arguments.values import COUNT, NATURAL, PROBABILITY
from .coco_metrics import FIGURES
from .detectors import ANCHOR_SIZES, KINDS
from .pyramid import CHANNELS, LEVELS
from .task import TARGETS

DEFAULT_OUTPUT = './output/detection'
UNSUPPORTED = {
    'channels_last': 'images have different sizes',
    'torchcompile': 'the number of regions changes from batch to batch',
    'model_dtype': 'use --amp',
    'save_images': 'images have different sizes; see gradaug_timm.detection.validate --pictures',
    'tta': 'it averages logits of crops',
    'gradaug_budget': 'it knows the cost of classification alone',
    'layer_decay': 'timm knows no layers of detectors',
}
IN_CLASSIFICATION = dict(  # what the training loop reads of train.py's other flags
    mixup_off_epoch=0, no_prefetcher=False, variable_batch_loss_scale='none', train_img_sizes=None, dist_bn='',
    in_chans=3, img_size=None,
)


def build_parser() -> StrictParser:
    """A fresh parser."""
    parser = StrictParser(
        prog='python -m gradaug_timm.detection.train',
        usage='%(prog)s [-c FILE...] --data-dir DIR [flags]',
        description='Trains Faster or Mask R-CNN on COCO\'s format, over a network of timm, with GradAug or without.')
    add_config(parser)
    for add in (_add_data, _add_detector, add_gradaug, add_optimizer, add_schedule, add_averaging, add_device, add_run):
        add(parser)
    return parser


def _add_data(parser: StrictParser):
    add = parser.add_argument_group('data').add_argument
    add('--data-dir', metavar='DIR', help='folder with annotations/instances_SPLIT.json and images in SPLIT/')
    add('--train-split', default='train2017', metavar='NAME', help='split to train on (default: train2017)')
    add('--val-split', default='val2017', metavar='NAME', help='split to validate on (default: val2017)')
    add('-b', '--batch-size', type=NATURAL, default=2, metavar='N', help='images a process (default: 2)')
    add('--hflip', type=PROBABILITY, default=0.5, metavar='P', help='probability of left-right flips (default: 0.5)')
    add('--min-size', type=NATURAL, nargs='+', default=[800], metavar='N',
        help='pixels of the shorter side; of several one is drawn in training, the last holds in validation')
    add('--max-size', type=NATURAL, default=1333, metavar='N', help='most pixels of the longer side (default: 1333)')


def _add_detector(parser: StrictParser):
    add = parser.add_argument_group('detector').add_argument
    add('--detector', default='mask_rcnn', choices=tuple(KINDS), help='boxes and masks, or boxes alone')
    add('--model', default='resnet50', metavar='NAME', help='network of timm, or of GradAug (default: resnet50)')
    add('--model-kwargs', nargs='*', default={}, action=Keywords, metavar='KEY=VALUE', help='its arguments')
    add('--pretrained', action='store_true', help='begin with timm\'s weights of it')
    add('--checkpoint', metavar='FILE', help='begin with the weights of a classifier, as of train.py')
    add('--freeze-stages', type=COUNT, metavar='N',
        help=f'first stages (stem included) that stay as they are, up to {LEVELS} (default: 1 with weights, else 0)')
    add('--freeze-statistics', action=argparse.BooleanOptionalAction,
        help='normalise the full network by the statistics of its weights (default: with weights)')
    add('--sync-bn', action='store_true', help='share batch statistics over processes')
    add('--gradaug-targets', default='truth', choices=TARGETS,
        help='what sub-networks learn: the annotated objects, or what the full network predicts for its regions')
    add('--pyramid-channels', type=NATURAL, default=CHANNELS, metavar='N',
        help=f'channels of the pyramid and of the mask head (default: {CHANNELS})')
    add('--anchor-sizes', type=NATURAL, nargs='+', default=list(ANCHOR_SIZES), metavar='N',
        help=f'pixels of the anchors of each map; smaller ones for smaller images (default: {ANCHOR_SIZES})')
    add('--detector-kwargs', nargs='*', default={}, action=Keywords, metavar='KEY=VALUE',
        help='arguments of torchvision\'s detector, such as box_batch_size_per_image=128')


def complete(args: argparse.Namespace) -> None:
    """Fills in, in place, what follows from other flags."""
    begins_with_weights = args.pretrained or bool(args.checkpoint)
    args.output = args.output or DEFAULT_OUTPUT
    args.gradaug = args.model.startswith('gradaug_') if args.gradaug is None else args.gradaug
    args.eval_metric = args.eval_metric or 'box_ap'
    if args.freeze_stages is None:
        args.freeze_stages = int(begins_with_weights)
    if args.freeze_statistics is None:
        args.freeze_statistics = begins_with_weights
    for name, value in IN_CLASSIFICATION.items():
        setattr(args, name, value)


def problems(args: argparse.Namespace, **_) -> Iterator[str]:
    """One line for each combination of flags that has no meaning."""
    if importlib.util.find_spec('faster_coco_eval') is None:
        yield 'detection needs the package faster-coco-eval: pip install "gradaug_timm[detection]"'
    if not args.data_dir:
        yield '--data-dir is missing: the folder of a data set in COCO\'s format'
    for name, reason in UNSUPPORTED.items():
        if getattr(args, name):
            yield f'--{name.replace("_", "-")} is not supported in detection: {reason}'
    if args.pretrained and args.checkpoint:
        yield '--pretrained and --checkpoint exclude each other'
    if args.checkpoint and not os.path.isfile(args.checkpoint):
        yield f'--checkpoint {args.checkpoint} is no file'
    if args.freeze_stages > LEVELS:
        yield f'--freeze-stages {args.freeze_stages} must be at most {LEVELS}'
    if max(args.min_size) > args.max_size:
        yield f'--min-size {max(args.min_size)} must be at most --max-size {args.max_size}'
    if len(args.anchor_sizes) != len(ANCHOR_SIZES):
        yield f'--anchor-sizes takes {len(ANCHOR_SIZES)} numbers, not {len(args.anchor_sizes)}'
    kinds = ('box', 'mask') if args.detector == 'mask_rcnn' else ('box',)
    metrics = [f'{kind}_{figure}' for kind in kinds for figure in FIGURES]
    if args.eval_metric not in metrics:
        yield f'--eval-metric {args.eval_metric} must be one of {", ".join(metrics)}'
    if args.sync_bn and args.freeze_statistics:
        yield '--sync-bn and --freeze-statistics exclude each other'
    yield from schedule_problems(args)
    yield from run_problems(args)
