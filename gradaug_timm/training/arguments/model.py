"""Flags of the network, its start and its teacher."""
from ...cli import Keywords, StrictParser
from .values import BELOW_ONE, NATURAL, NON_NEGATIVE, NUMBER, POSITIVE


def add_model(parser: StrictParser):
    """Which network is trained, and from what."""
    add = parser.add_argument_group('model').add_argument
    add('--model', default='resnet50', metavar='NAME', help='any model of timm, or gradaug_* (default: resnet50)')
    add('--pretrained', action='store_true', help='start from timm\'s weights')
    add('--pretrained-path', metavar='FILE', help='start from this file as if it were timm\'s weights')
    add('--pretrained-cfg-overlay', nargs='*', default={}, action=Keywords, metavar='KEY=VALUE',
        help='changes to the model\'s pretrained configuration')
    add('--initial-checkpoint', default='', metavar='FILE', help='load this checkpoint into the new model')
    add('--num-classes', type=NATURAL, metavar='N', help='classes (default: the model\'s)')
    add('--gp', metavar='POOL', help='global pooling: fast, avg, max, avgmax, avgmaxc')
    add('--model-kwargs', nargs='*', default={}, action=Keywords, metavar='KEY=VALUE', help='arguments of the model')
    add('--head-init-scale', type=NUMBER, metavar='SCALE', help='factor on the classifier\'s initial weights')
    add('--head-init-bias', type=NUMBER, metavar='BIAS', help='initial bias of the classifier')
    add('--drop', type=BELOW_ONE, default=0., metavar='P', help='dropout before the classifier')
    add('--drop-connect', type=BELOW_ONE, metavar='P', help='older name of --drop-path')
    add('--drop-path', type=BELOW_ONE, metavar='P', help='stochastic depth of single images')
    add('--drop-block', type=BELOW_ONE, metavar='P', help='DropBlock')
    add('--grad-checkpointing', action='store_true', help='recompute activations in backward to save memory')
    add('--fast-norm', action='store_true', help='normalise in low precision')
    _add_norm(parser)


def _add_norm(parser: StrictParser):
    add = parser.add_argument_group('batch norm').add_argument
    add('--bn-momentum', type=BELOW_ONE, metavar='M', help='momentum of the running statistics')
    add('--bn-eps', type=POSITIVE, metavar='EPS', help='epsilon of the layers')
    add('--sync-bn', action='store_true', help='batch statistics over all processes')
    add('--dist-bn', default='reduce', choices=('broadcast', 'reduce', ''),
        help='running statistics of the processes after an epoch (default: reduce)')
    add('--split-bn', action='store_true', help='own layers for each part of --aug-splits')


def add_distillation(parser: StrictParser):
    """timm's distillation tasks; not together with GradAug."""
    add = parser.add_argument_group('distillation').add_argument
    add('--kd-model-name', metavar='NAME', help='teacher')
    add('--kd-checkpoint', metavar='FILE', help='file of its weights (default: timm\'s)')
    add('--kd-distill-type', default='logit', choices=('logit', 'feature', 'token'), help='what the teacher shows')
    add('--kd-loss-type', default='kl', choices=('kl',), help='loss on the logits')
    add('--distill-loss-weight', type=NON_NEGATIVE, metavar='W', help='weight of the distillation loss')
    add('--task-loss-weight', type=NON_NEGATIVE, metavar='W', help='weight of the classification loss')
    add('--kd-temperature', type=POSITIVE, default=4., metavar='T', help='temperature of the softmax (default: 4)')
    add('--kd-student-feature-dim', type=NATURAL, metavar='N', help='features of the student')
    add('--kd-teacher-feature-dim', type=NATURAL, metavar='N', help='features of the teacher')
    add('--kd-token-distill-type', default='soft', choices=('soft', 'hard'), help='targets of token distillation')
