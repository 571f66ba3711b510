"""Flags of the optimizer, its schedule and the loss."""
import argparse

from timm.loss import LOSS_TYPES

from ...cli import Keywords, StrictParser
from .values import BELOW_ONE, COUNT, NATURAL, NON_NEGATIVE, NUMBER, POSITIVE, PROBABILITY, optimizer

SCHEDULES = ('cosine', 'tanh', 'step', 'multistep', 'poly', 'wsd', 'rsqrt', 'constant', 'plateau', 'none')


def add_optimizer(parser: StrictParser):
    """How weights change."""
    add = parser.add_argument_group('optimizer').add_argument
    add('--opt', type=optimizer, default='sgd', metavar='NAME', help='optimizer of timm (default: sgd, with Nesterov)')
    add('--opt-eps', type=NON_NEGATIVE, metavar='EPS', help='epsilon')
    add('--opt-betas', type=BELOW_ONE, nargs='+', metavar='BETA', help='betas')
    add('--momentum', type=BELOW_ONE, default=0.9, metavar='M', help='momentum (default: 0.9)')
    add('--weight-decay', type=NON_NEGATIVE, default=2e-5, metavar='W', help='weight decay (default: 2e-5)')
    add('--decay-all-parameters', action='store_true', help='weight decay on biases and norms too')
    add('--clip-grad', type=POSITIVE, metavar='NORM', help='limit of the gradient')
    add('--clip-mode', default='norm', choices=('norm', 'value', 'agc'), help='what the limit is on')
    add('--layer-decay', type=POSITIVE, metavar='D', help='decay of the learning rate by layer')
    add('--layer-decay-min-scale', type=NON_NEGATIVE, default=0, metavar='S', help='lower limit of that decay')
    add('--layer-decay-no-opt-scale', type=NON_NEGATIVE, metavar='S', help='layers below this scale stay fixed')
    add('--opt-foreach', action=argparse.BooleanOptionalAction, help='multi-tensor implementation')
    add('--opt-kwargs', nargs='*', default={}, action=Keywords, metavar='KEY=VALUE',
        help='arguments of the optimizer')
    add('--grad-accum-steps', type=NATURAL, default=1, metavar='N', help='batches an update')


def add_schedule(parser: StrictParser):
    """How the learning rate changes."""
    add = parser.add_argument_group('learning rate').add_argument
    add('--sched', default='cosine', choices=SCHEDULES, help='schedule (default: cosine)')
    add('--sched-on-updates', action='store_true', help='change it at every update, not every epoch')
    add('--lr', type=POSITIVE, metavar='LR', help='learning rate (default: from --lr-base)')
    add('--lr-base', type=POSITIVE, default=0.1, metavar='LR', help='learning rate at --lr-base-size images an update')
    add('--lr-base-size', type=NATURAL, default=256, metavar='N', help='images that --lr-base is for')
    add('--lr-base-scale', default='', choices=('linear', 'sqrt', ''), help='growth with the batch (default: by --opt)')
    add('--lr-noise', type=PROBABILITY, nargs='+', metavar='PCT', help='where noise starts, and ends')
    add('--lr-noise-pct', type=NON_NEGATIVE, default=0.67, metavar='PCT', help='limit of the noise')
    add('--lr-noise-std', type=NON_NEGATIVE, default=1., metavar='STD', help='standard deviation of the noise')
    add('--lr-cycle-mul', type=POSITIVE, default=1., metavar='F', help='growth of the cycles')
    add('--lr-cycle-decay', type=NON_NEGATIVE, default=0.5, metavar='F', help='decay by cycle')
    add('--lr-cycle-limit', type=NATURAL, default=1, metavar='N', help='number of cycles')
    add('--lr-k-decay', type=POSITIVE, default=1., metavar='K', help='exponent of cosine and poly')
    add('--lr-decay-fn', metavar='NAME', help='decay of wsd and rsqrt (default: 1-sqrt and linear)')
    add('--lr-stable-timescale', type=POSITIVE, metavar='N', help='epochs of rsqrt\'s time scale')
    add('--warmup-lr', type=NON_NEGATIVE, default=1e-5, metavar='LR', help='learning rate at the start of the warm-up')
    add('--min-lr', type=NON_NEGATIVE, default=0, metavar='LR', help='lowest learning rate')
    add('--epochs', type=NATURAL, default=300, metavar='N', help='epochs of the schedule (default: 300)')
    add('--epoch-repeats', type=NON_NEGATIVE, default=0., metavar='N', help='passes over an iterable data set an epoch')
    add('--start-epoch', type=COUNT, metavar='N', help='first epoch')
    add('--stop-epoch', type=NATURAL, metavar='N', help='end early, after this many epochs of the schedule')
    add('--decay-milestones', type=COUNT, nargs='+', default=[90, 180, 270], metavar='N', help='epochs of multistep')
    add('--decay-epochs', type=POSITIVE, metavar='N',
        help='interval of step (default: 90), or length of wsd\'s decay (default: 0.2 of the schedule)')
    add('--warmup-epochs', type=COUNT, default=5, metavar='N', help='epochs of warm-up (default: 5)')
    add('--warmup-prefix', action='store_true', help='warm-up comes before the epochs of the schedule')
    add('--cooldown-epochs', type=COUNT, default=0, metavar='N', help='epochs at the lowest learning rate')
    add('--patience-epochs', type=COUNT, default=10, metavar='N', help='patience of plateau')
    add('--decay-rate', '--dr', type=POSITIVE, default=0.1, metavar='F', help='factor of step, exponent of poly')


def add_loss(parser: StrictParser):
    """What is learnt."""
    add = parser.add_argument_group('loss').add_argument
    add('--task', default='classification', choices=('classification', 'multilabel'), help='one label, or many')
    add('--loss', choices=LOSS_TYPES, help='loss (default: ce, and bce for --task multilabel)')
    add('--jsd-loss', action='store_true', help='older spelling of --loss jsd')
    add('--bce-loss', action='store_true', help='older spelling of --loss bce')
    add('--bce-sum', action='store_true', help='sum BCE over classes')
    add('--bce-target-thresh', type=PROBABILITY, metavar='T', help='threshold that makes soft BCE targets binary')
    add('--bce-pos-weight', type=NON_NEGATIVE, metavar='W', help='older spelling of --loss-pos-weight')
    add('--loss-pos-weight', metavar='W', help='weight of positives: number, list, file, or neg_pos')
    add('--loss-class-weight', metavar='W', help='weight of classes: number, list, file, inv_freq or effective_num')
    add('--loss-weight-power', type=NON_NEGATIVE, default=1., metavar='P', help='exponent of computed weights')
    add('--loss-weight-beta', type=BELOW_ONE, default=0.999, metavar='B', help='beta of effective_num')
    add('--loss-weight-max', type=POSITIVE, metavar='W', help='upper limit of computed weights')
    add('--class-stats', metavar='FILE', help='JSON with pos_counts and num_samples of the classes')
    add('--asl-gamma-pos', type=NON_NEGATIVE, default=1., metavar='G', help='focus of asl on positives')
    add('--asl-gamma-neg', type=NON_NEGATIVE, default=4., metavar='G', help='focus of asl on negatives')
    add('--asl-clip', type=BELOW_ONE, default=0.05, metavar='P', help='margin of asl')
    add('--asl-reduction', default='batchmean', choices=('batchmean', 'sum', 'mean'), help='reduction of asl')
    add('--poly-epsilon', type=NUMBER, default=2., metavar='E', help='coefficient of poly')
    add('--poly-gamma', type=NON_NEGATIVE, default=0., metavar='G', help='focus of poly')
    add('--poly-alpha', type=PROBABILITY, metavar='A', help='balance of poly')
    add('--twoway-tp', type=POSITIVE, default=4., metavar='T', help='temperature of twoway for positives')
    add('--twoway-tn', type=POSITIVE, default=1., metavar='T', help='temperature of twoway for negatives')
    add('--db-neg-scale', type=POSITIVE, default=2., metavar='S', help='logit scale of db for negatives')
    add('--db-init-bias', type=NON_NEGATIVE, default=0.05, metavar='B', help='prior shift of db')
    add('--db-focal-gamma', type=NON_NEGATIVE, default=2., metavar='G', help='focus of db')
    add('--multilabel-threshold', type=PROBABILITY, default=0.5, metavar='P', help='probability that counts as yes')
