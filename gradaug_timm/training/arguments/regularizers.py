"""Flags of the regularisers that GradAug is compared with and that timm lacks, or does otherwise."""
from ...cli import StrictParser, ranged
from .values import NATURAL, NUMBER, SHARE


def add_regularizers(parser: StrictParser):
    """ShakeDrop, stochastic depth and DropBlock as in their papers."""
    add = parser.add_argument_group('regularisers, as published').add_argument
    add('--shake-drop', type=SHARE, metavar='P',
        help='ShakeDrop: probability that the last residual branch stays as it is, linear from the first')
    add('--shake-drop-alpha', type=NUMBER, nargs=2, metavar=('LO', 'HI'), help='its forward factors (default: -1 1)')
    add('--shake-drop-beta', type=NUMBER, nargs=2, metavar=('LO', 'HI'), help='its backward factors (default: 0 1)')
    add('--shake-drop-level', choices=('batch', 'image', 'channel', 'pixel'),
        help='what shares a factor (default: pixel)')
    add('--stoch-depth', type=SHARE, metavar='P',
        help='stochastic depth of whole batches: probability that the last block runs, linear from the first')
    add('--paper-drop-block', type=ranged(float, above=0, below=1), metavar='RATE',
        help='DropBlock after every convolution and shortcut of the last two stages')
    add('--paper-drop-block-schedule', choices=('linear', 'constant'),
        help='whether its rate rises from 0 over all updates (default: linear)')
    add('--paper-drop-block-size', type=NATURAL, metavar='N', help='side of its blocks (default: 7)')
