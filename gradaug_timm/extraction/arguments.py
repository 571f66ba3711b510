"""The command line of `python -m gradaug_timm.extract`."""
import argparse
import os

from ..cli import Keywords, StrictParser, file_to_write
from ..evaluation import arguments as validation
from ..evaluation.arguments import COUNT, NATURAL, SHARE
from ..evaluation.network import training_arguments

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
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='of train.py, or other weights with --model')
    add = parser.add_argument_group('files').add_argument
    add('--output', required=True, type=file_to_write(ENDING), metavar=f'FILE{ENDING}', help='file to write')
    add('--overwrite', action='store_true', help='replace the file where it is there already')
    add = parser.add_argument_group('sub-network').add_argument
    add('--width', type=SHARE, default=1., metavar='W', help='share of the channels that is kept (default: 1)')
    add('--divisor', type=NATURAL, metavar='N',
        help='channel counts are rounded to its multiples (default: as the checkpoint was trained, else 8)')
    add('--skip-blocks', type=COUNT, nargs='+', default=[], metavar='I', help='indexes of blocks that are left out')
    add_network(parser)
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


def add_network(parser: StrictParser) -> None:
    """Flags of the network that a checkpoint is of."""
    add = parser.add_argument_group('network, by default as the checkpoint tells').add_argument
    add('-m', '--model', metavar='NAME', help='its name')
    add('--num-classes', type=NATURAL, metavar='N', help='its number of classes')
    add('--model-kwargs', nargs='*', action=Keywords, metavar='KEY=VALUE', help='its further arguments')
    add('--img-size', type=NATURAL, metavar='N', help='side of its images')
    add('--use-ema', action='store_true', help='averaged weights of the checkpoint where it has them')


def as_for_validation(args: argparse.Namespace, *, widths: list[float] | None) -> argparse.Namespace:
    """What validate.py would be told: its defaults, then how the checkpoint was trained, then what is given here.

    Args:
        args: Arguments of the command, with `checkpoint` and those of `add_network`.
        widths: The value of `--width`.

    Raises:
        ValueError: The checkpoint is missing or damaged, or neither it nor the arguments tell the network.
    """
    if not os.path.isfile(args.checkpoint):
        raise ValueError(f'{args.checkpoint} is no file')
    trained = training_arguments(args.checkpoint)
    if not args.model and 'model' not in trained:
        raise ValueError(f'{args.checkpoint} doesn\'t tell which network it is of: give --model')
    values = vars(validation.build_parser().parse_args([]))
    values |= {name: trained[name] for name in AS_TRAINED if trained.get(name) is not None}
    values |= {name: value for name, value in vars(args).items() if value is not None}
    if args.img_size and values['input_size']:
        values |= {'in_chans': values['in_chans'] or values['input_size'][0], 'input_size': None}
    return argparse.Namespace(**{**values, 'use_train_size': True, 'width': widths})
