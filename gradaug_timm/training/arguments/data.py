"""Flags of data sets and of the model's input."""
from timm.data.readers.targets import TARGET_FORMATS

from ...cli import StrictParser
from .values import INTERPOLATIONS, NATURAL, NUMBER, POSITIVE, SHARE


def add_data(parser: StrictParser):
    """Where images and labels come from."""
    parser.add_argument('data', nargs='?', metavar='DIR', help='root of the data; --data-dir is the newer spelling')
    add = parser.add_argument_group('data').add_argument
    add('--data-dir', metavar='DIR', help='root of the data')
    add('--dataset', default='', metavar='NAME',
        help='KIND/NAME as in timm, gradaug/mnist5k or gradaug/stl10; none: image folders')
    add('--train-split', default='train', metavar='NAME', help='split to train on (default: train)')
    add('--val-split', default='validation', metavar='NAME', help='split to validate on, "" for none')
    add('--labels-per-class', type=NATURAL, metavar='K', help='train on K images of each class, drawn by --seed')
    add('--train-fraction', type=SHARE, metavar='F', help='train on this share of each class, drawn by --seed')
    add('--train-num-samples', type=NATURAL, metavar='N', help='length of an iterable training split')
    add('--val-num-samples', type=NATURAL, metavar='N', help='length of an iterable validation split')
    add('--dataset-download', action='store_true', help='let torch/ and tfds/ data sets download themselves')
    add('--dataset-trust-remote-code', action='store_true', help='let hfds/ data sets run code of their repository')
    add('--class-map', default='', metavar='FILE', help='file that maps class names to labels')
    add('--input-img-mode', metavar='MODE', help='PIL mode of the images (default: RGB, L for one channel)')
    add('--input-key', metavar='KEY', help='field of the images')
    add('--target-key', metavar='KEY', help='field of the labels; comma-separated fields for --task multilabel')
    add('--target-format', choices=TARGET_FORMATS, help='labels of --task multilabel: classes, or 0/1 vectors')


def add_input(parser: StrictParser):
    """What the network gets to see."""
    add = parser.add_argument_group('input').add_argument
    add('--img-size', type=NATURAL, metavar='N', help='height and width (default: the model\'s)')
    add('--in-chans', type=NATURAL, metavar='N', help='channels (default: 3)')
    add('--input-size', nargs=3, type=NATURAL, metavar=('C', 'H', 'W'), help='channels, height and width')
    add('--crop-pct', type=POSITIVE, metavar='PCT', help='share that the validation crop keeps')
    add('--mean', type=NUMBER, nargs='+', metavar='MEAN', help='mean of the channels, in 0..1')
    add('--std', type=POSITIVE, nargs='+', metavar='STD', help='standard deviation of the channels')
    add('--interpolation', default='', choices=INTERPOLATIONS, help='resizing filter (default: the model\'s)')
    add('-b', '--batch-size', type=NATURAL, default=128, metavar='N', help='images a process and step (default: 128)')
    add('--keep-last-batch', action='store_true', help='train on the last, incomplete batch of an epoch too')
    add('-vb', '--validation-batch-size', type=NATURAL, metavar='N', help='images a validation step')
