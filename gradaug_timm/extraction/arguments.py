"""The command line of `python -m gradaug_timm.extract`."""
import argparse

from ..cli import Keywords, StrictParser, file_to_write
from ..evaluation import arguments as validation
from ..evaluation.arguments import COUNT, NATURAL, SHARE

ENDING = '.safetensors'

# Flags of train.py that say which network it was, and what images it saw.
AS_TRAINED = (
    'model', 'num_classes', 'in_chans', 'gp', 'model_kwargs', 'img_size', 'input_size', 'crop_pct', 'mean', 'std',
    'interpolation', 'dataset', 'train_split', 'class_map', 'input_img_mode', 'input_key', 'target_key',
)


def build_parser() -> StrictParser:
    """The parser of the command."""
    parser = StrictParser(
        prog='python -m gradaug_timm.extract',
        description='Writes a sub-network of a trained network as a file, which gradaug_timm.load_extracted opens.')
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help='checkpoint of train.py, or other weights with --model')
    add('--output', required=True, type=file_to_write(ENDING), metavar=f'FILE{ENDING}', help='file to write')
    add('--overwrite', action='store_true', help='replace the file where it is there already')
    add('--use-ema', action='store_true', help='averaged weights of the checkpoint where it has them')
    add = parser.add_argument_group('sub-network').add_argument
    add('--width', type=SHARE, default=1., metavar='W', help='share of the channels that is kept (default: 1)')
    add('--divisor', type=NATURAL, metavar='N',
        help='channel counts are rounded to its multiples (default: as the checkpoint was trained, else 8)')
    add('--skip-blocks', type=COUNT, nargs='+', default=[], metavar='I', help='indexes of blocks that are left out')
    add = parser.add_argument_group('network, by default as the checkpoint tells').add_argument
    add('-m', '--model', metavar='NAME', help='its name')
    add('--num-classes', type=NATURAL, metavar='N', help='its number of classes')
    add('--model-kwargs', nargs='*', action=Keywords, metavar='KEY=VALUE', help='its further arguments')
    add('--img-size', type=NATURAL, metavar='N', help='side of its images')
    add = parser.add_argument_group('recalibration of BatchNorm on training images').add_argument
    add('--data-dir', metavar='DIR',
        help='folder of the data (without it and --dataset the full network\'s statistics are kept)')
    add('--dataset', metavar='NAME', help='"<kind>/<name>" (default: as the checkpoint was trained)')
    add('--train-split', metavar='NAME', help='split of the images (default: as the checkpoint was trained)')
    add('--recalibration-batches', type=NATURAL, metavar='N', help='number of batches (default: 16)')
    add('-b', '--batch-size', type=NATURAL, metavar='N', help='images a batch (default: 256)')
    add('-j', '--workers', type=COUNT, metavar='N', help='loader processes (default: 4)')
    add('--device', metavar='NAME', help='device (default: the accelerator if there is one, else cpu)')
    add('--seed', type=COUNT, metavar='N', help='random seed (default: 42)')
    return parser


def as_for_validation(args: argparse.Namespace, trained: dict) -> argparse.Namespace:
    """What validate.py would be told: its defaults, then how the checkpoint was trained, then what is given here.

    Args:
        args: Arguments of the command.
        trained: Flags of train.py.
    """
    values = vars(validation.build_parser().parse_args([]))
    values |= {name: trained[name] for name in AS_TRAINED if trained.get(name) is not None}
    values |= {name: value for name, value in vars(args).items() if value is not None}
    if args.img_size and values['input_size']:
        values |= {'in_chans': values['in_chans'] or values['input_size'][0], 'input_size': None}
    return argparse.Namespace(**{**values, 'use_train_size': True, 'width': [args.width]})
