"""Conditions under which settings have no effect, shared by several settings."""
from timm.loss import CLASS_WEIGHT_METHOD_KINDS
from timm.optim import get_optimizer_info

from ...flags import Idle, Values, only_for

WARMED_UP = only_for('sched', 'cosine', 'tanh', 'step', 'multistep', 'poly', 'wsd', 'rsqrt', 'constant', 'plateau')
CYCLIC = only_for('sched', 'cosine', 'tanh', 'poly')
ASL, POLY, TWOWAY, DB = (only_for('loss', loss) for loss in ('asl', 'poly', 'twoway', 'db'))
ONE_CYCLE = Idle(lambda v: v['lr_cycle_limit'] == 1, 'with one cycle (--lr-cycle-limit)')
UNMIXED = Idle(lambda v: not v['mixup'] and not _cuts(v), 'without --mixup and --cutmix')
ONE_MIXER = Idle(lambda v: not (v['mixup'] and _cuts(v)), 'unless both --mixup and --cutmix are on')
NO_JITTER = Idle(lambda v: v['aa'] and '3a' not in v['aa'], 'with --aa, other than 3a')
GIVEN_WEIGHTS = Idle(
    lambda v: not _computes_weights(v),
    'without weights that are computed: --loss-class-weight inv_freq or effective_num, --loss-pos-weight neg_pos')
NO_TURN = Idle(lambda v: all(angle % 360 == 0 for angle in v['gradaug_rotation']), 'as no angle rotates images')
ONE_SIZE = Idle(lambda v: len(set(v['gradaug_sizes'])) == 1, 'with one size')
ONE_PROCESS = Idle(lambda v: v['processes'] == 1, 'in one process')
SYNCHRONIZED = Idle(lambda v: v['sync_bn'], 'with --sync-bn')
RATE_BY_LAYER = Idle(
    lambda v: v['sched'] == 'none' and v['layer_decay_no_opt_scale'] is None,
    'with --sched none, as timm\'s schedules apply it; use --sched constant')
WITHOUT_STATS = Idle(
    lambda v: v['loss'] != 'db' and not _computes_weights(v),
    'without weights that are computed, and without --loss db')
STREAMED = Idle(lambda v: not _reads(v, 'wds/', 'hfids/', 'tfds/'), 'only with wds/, hfids/ and tfds/')
FROM_THE_HUB = Idle(lambda v: not _reads(v, 'hfds/', 'hfids/'), 'only with hfds/ and hfids/')
NEVER = Idle(lambda v: True, 'as the draws of data workers follow from --seed')
ON_CPU = Idle(lambda v: v['device'] == 'cpu', 'on the CPU')


def beyond_the_end(name: str) -> Idle:
    """Return the condition of a setting that has no effect if it names an epoch after the end of the run."""
    return Idle(lambda values: values[name] >= values['end_epoch'], 'as the run ends before')


def unused_by_optimizer(feature: str) -> Idle:
    """Return the condition of a setting that has no effect with optimizers without a feature, by timm's name."""
    return Idle(lambda values: not getattr(_optimizer(values), feature), lambda values: f'with --opt {values["opt"]}')


def _computes_weights(values: Values) -> bool:
    return bool(CLASS_WEIGHT_METHOD_KINDS.keys() & {values['loss_class_weight'], values['loss_pos_weight']})


def _reads(values: Values, *kinds: str) -> bool:
    return values.get('dataset', '').lower().startswith(kinds)


def _cuts(values: Values) -> bool:
    return values['cutmix'] > 0 or values['cutmix_minmax'] is not None


def _optimizer(values: Values):
    return get_optimizer_info(values['opt'].lower().removeprefix('lookahead_'))
