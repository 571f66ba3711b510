"""Which settings have no effect beside the others."""
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from timm.optim import get_optimizer_info

from ...cli import flag
from ...task.settings import GradAugSettings
from ..arguments.gradaug import PREFIX

Values = Mapping[str, Any]  # settings by name, those of GradAug with its prefix

GRADAUG = tuple(f'{PREFIX}{field.name}' for field in fields(GradAugSettings))

NEEDS = {  # by a setting: those without effect where it is off
    'gradaug': (*GRADAUG, 'gradaug_budget', 'gradaug_targets'),
    'gradaug_subnets': (*GRADAUG, 'gradaug_budget'),
    'amp': ('amp_dtype',),
    'clip_grad': ('clip_mode',),
    'color_jitter': ('color_jitter_prob',),
    'experiment': ('overwrite',),
    'kd_model_name': (
        'kd_distill_type', 'kd_loss_type', 'distill_loss_weight', 'task_loss_weight', 'kd_temperature',
        'kd_student_feature_dim', 'kd_teacher_feature_dim', 'kd_token_distill_type'),
    'layer_decay': ('layer_decay_min_scale', 'layer_decay_no_opt_scale'),
    'log_trackio': ('trackio_project',),
    'log_wandb': ('wandb_project', 'wandb_tags'),
    'lr_noise': ('lr_noise_pct', 'lr_noise_std'),
    'model_ema': ('model_ema_decay', 'model_ema_force_cpu', 'model_ema_warmup'),
    'reprob': ('recount', 'remode'),
    'resume': ('no_resume_opt',),
    'torchcompile': ('torchcompile_mode',),
    'train_img_sizes': (
        'train_size_schedule', 'train_size_schedule_spread', 'train_size_random_mix', 'train_batches_per_epoch',
        'variable_batch_loss_scale'),
    'val_split': ('validation_batch_size', 'val_num_samples', 'tta'),
    'warmup_epochs': ('warmup_lr', 'warmup_prefix'),
    'weight_decay': ('decay_all_parameters',),
}

WARMED_UP = ('cosine', 'tanh', 'step', 'multistep', 'poly', 'wsd', 'rsqrt', 'constant', 'plateau')
CYCLIC = ('cosine', 'tanh', 'poly')
ONLY_FOR: dict[str, dict] = {  # by a setting of choices: those that have an effect for some of the choices only
    'gradaug_mode': {
        'gradaug_min_width': ('width', 'both'),
        'gradaug_width_steps': ('width', 'both'),
        'gradaug_divisor': ('width', 'both'),
        'gradaug_min_survival': ('depth', 'both'),
    },
    'sched': {
        'decay_milestones': ('multistep',),
        'decay_epochs': ('step', 'wsd', 'rsqrt'),
        'decay_rate': ('step', 'multistep', 'poly', 'plateau'),
        'min_lr': ('cosine', 'tanh', 'poly', 'wsd', 'rsqrt', 'plateau'),
        'patience_epochs': ('plateau',),
        'cooldown_epochs': (*CYCLIC, 'wsd', 'rsqrt'),
        'lr_cycle_limit': CYCLIC,
        'lr_cycle_mul': CYCLIC,
        'lr_cycle_decay': CYCLIC,
        'lr_k_decay': ('cosine', 'poly'),
        'lr_decay_fn': ('wsd', 'rsqrt'),
        'lr_stable_timescale': ('rsqrt',),
        'lr_noise': WARMED_UP,
        'warmup_epochs': WARMED_UP,
        'warmup_lr': WARMED_UP,
        'sched_on_updates': WARMED_UP,
    },
    'loss': {
        'asl_gamma_pos': ('asl',), 'asl_gamma_neg': ('asl',), 'asl_clip': ('asl',), 'asl_reduction': ('asl',),
        'poly_epsilon': ('poly',), 'poly_gamma': ('poly',), 'poly_alpha': ('poly',), 'twoway_tp': ('twoway',),
        'twoway_tn': ('twoway',), 'db_neg_scale': ('db',), 'db_init_bias': ('db',), 'db_focal_gamma': ('db',),
    },
    'task': {'multilabel_threshold': ('multilabel',)},
    'train_size_schedule': {
        'train_size_schedule_spread': ('progressive',), 'train_size_random_mix': ('progressive',),
    },
}

CROP = ('scale', 'ratio')
REPLACED_BY = {  # by a setting: those without effect where it is on
    'lr': ('lr_base', 'lr_base_scale', 'lr_base_size'),
    'no_aug': (
        *CROP, 'train_crop_mode', 'hflip', 'vflip', 'color_jitter', 'color_jitter_prob', 'grayscale_prob',
        'gaussian_blur_prob', 'aa', 'reprob', 'remode', 'recount'),
    'reflect_pad': CROP,
    'zero_pad': CROP,
}


@dataclass(frozen=True)
class Rule:
    """The settings `names` have no effect where `holds`, for the `reason`."""
    names: tuple[str, ...]
    holds: Callable[[Values], Any]
    reason: str | Callable[[Values], str]


OTHERS = (
    Rule(('mixup_prob', 'mixup_mode', 'mixup_off_epoch', 'mixup_switch_prob'), lambda v: not _mixes(v),
         'without --mixup and --cutmix'),
    Rule(('mixup_switch_prob',), lambda v: not (v['mixup'] and _cuts(v)), 'unless both --mixup and --cutmix are on'),
    Rule(('mixup_off_epoch',), lambda v: v['mixup_off_epoch'] >= v['end_epoch'], 'from the end of the run on'),
    Rule(('gradaug_off_epoch',), lambda v: v['gradaug_off_epoch'] >= v['end_epoch'], 'from the end of the run on'),
    Rule(('gradaug_rotation',), lambda v: all(angle % 360 == 0 for angle in v['gradaug_rotation']),
         'as these angles turn nothing'),
    Rule(('gradaug_size_epochs',), lambda v: len(set(v['gradaug_sizes'])) == 1, 'with one size'),
    Rule(('color_jitter',), lambda v: v['aa'] and '3a' not in v['aa'], 'with --aa, other than 3a'),
    Rule(('lr_cycle_mul', 'lr_cycle_decay'), lambda v: v['lr_cycle_limit'] == 1, 'with one cycle (--lr-cycle-limit)'),
    Rule(('loss_weight_power', 'loss_weight_beta', 'loss_weight_max'),
         lambda v: not {v['loss_class_weight'], v['loss_pos_weight']} & {'inv_freq', 'effective_num', 'neg_pos'},
         'without weights that are computed: --loss-class-weight inv_freq or effective_num, --loss-pos-weight neg_pos'),
    Rule(('momentum',), lambda v: not _optimizer(v).has_momentum, lambda v: f'with --opt {v["opt"]}'),
    Rule(('opt_betas',), lambda v: not _optimizer(v).has_betas, lambda v: f'with --opt {v["opt"]}'),
    Rule(('opt_eps',), lambda v: not _optimizer(v).has_eps, lambda v: f'with --opt {v["opt"]}'),
    Rule(('dist_bn', 'no_ddp_bb', 'sync_bn'), lambda v: v['processes'] == 1, 'in one process'),
    Rule(('dist_bn',), lambda v: v['sync_bn'], 'with --sync-bn'),
    Rule(('pin_mem', 'synchronize_step'), lambda v: v['device'] == 'cpu', 'on the CPU'),
)


def without_effect(values: Values, given: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The settings that change nothing, each with the reason as `without --amp`.

    Args:
        values: All settings, and `end_epoch`, `device` (its kind) and `processes`.
        given: Names of those that were set to something else than the default.
    """
    for name in given:
        rule = next((rule for rule in RULES if name in rule.names and rule.holds(values)), None)
        if rule is not None:
            yield name, rule.reason if isinstance(rule.reason, str) else rule.reason(values)


def _needs(other: str, names: tuple[str, ...]) -> Rule:
    names = tuple(name for name in names if name != other)
    return Rule(names, lambda v: not v.get(other), f'without {flag(other)}')


def _only_for(choice: str, name: str, choices: tuple[str, ...]) -> Rule:
    return Rule((name,), lambda v: v[choice] not in choices,
                lambda v: f'with {flag(choice)} {v[choice]}, only with {" or ".join(choices)}')


def _replaced(other: str, names: tuple[str, ...]) -> Rule:
    return Rule(names, lambda v: v.get(other) and other in v['given'], f'with {flag(other)}')


def _cuts(values: Values) -> bool:
    return values['cutmix'] > 0 or values['cutmix_minmax'] is not None


def _mixes(values: Values) -> bool:
    return values['mixup'] > 0 or _cuts(values)


def _optimizer(values: Values):
    return get_optimizer_info(values['opt'].lower().removeprefix('lookahead_'))


RULES = (
    *(_needs(other, names) for other, names in NEEDS.items()),
    *(_only_for(choice, name, choices) for choice, names in ONLY_FOR.items() for name, choices in names.items()),
    *(_replaced(other, names) for other, names in REPLACED_BY.items()),
    *OTHERS,
)
