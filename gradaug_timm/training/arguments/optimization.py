"""Settings of the optimizer, the learning rate schedule and the loss."""
from dataclasses import dataclass
from typing import Any

from timm.loss import LOSS_TYPES

from ...flags import Role, Settings, keywords, needs, only_for, replaced_by, setting, switch, toggle
from .class_weights import WeightsAction
from .conditions import (
    ASL,
    CYCLIC,
    DB,
    GIVEN_WEIGHTS,
    ONE_CYCLE,
    POLY,
    RATE_BY_LAYER,
    STREAMED,
    TWOWAY,
    WARMED_UP,
    WITHOUT_STATS,
    unused_by_optimizer,
)
from .values import BELOW_ONE, COUNT, NATURAL, NON_NEGATIVE, NUMBER, POSITIVE, PROBABILITY, optimizer

SCHEDULES = ('cosine', 'tanh', 'step', 'multistep', 'poly', 'wsd', 'rsqrt', 'constant', 'plateau', 'none')


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Settings, title='optimizer'):
    """The optimizer."""

    opt: str = setting(
        'sgd', 'optimizer of timm (default: sgd, with Nesterov momentum)', type=optimizer, metavar='NAME',
        role=Role.COMPARED)
    opt_eps: float | None = setting(
        None, 'epsilon of the optimizer', type=NON_NEGATIVE, metavar='EPS', role=Role.OPTIMIZER,
        idle=(unused_by_optimizer('has_eps'),))
    opt_betas: tuple[float, ...] | None = setting(
        None, 'betas of the optimizer', type=BELOW_ONE, nargs='+', metavar='BETA', role=Role.OPTIMIZER,
        idle=(unused_by_optimizer('has_betas'),))
    momentum: float = setting(
        0.9, 'momentum of the optimizer (default: 0.9)', type=BELOW_ONE, metavar='M', role=Role.OPTIMIZER,
        idle=(unused_by_optimizer('has_momentum'),))
    weight_decay: float = setting(
        2e-5, 'weight decay (default: 2e-5)', type=NON_NEGATIVE, metavar='W', role=Role.OPTIMIZER)
    decay_all_parameters: bool = switch(
        'also decay biases and the weights of norm layers', role=Role.OPTIMIZER, idle=(needs('weight_decay'),))
    clip_grad: float | None = setting(None, 'limit of the gradient', type=POSITIVE, metavar='NORM')
    clip_mode: str = setting(
        'norm', 'what --clip-grad limits: the norm, each value, or by layer (agc)', choices=('norm', 'value', 'agc'),
        idle=(needs('clip_grad'),))
    layer_decay: float | None = setting(
        None, 'factor by which the learning rate falls from layer to layer towards the input', type=POSITIVE,
        metavar='D', role=Role.OPTIMIZER, idle=(RATE_BY_LAYER,))
    layer_decay_min_scale: float = setting(
        0, 'smallest factor of --layer-decay', type=NON_NEGATIVE, metavar='S', role=Role.OPTIMIZER,
        idle=(needs('layer_decay'), RATE_BY_LAYER))
    layer_decay_no_opt_scale: float | None = setting(
        None, 'freeze layers whose factor of --layer-decay is below this', type=NON_NEGATIVE, metavar='S',
        role=Role.OPTIMIZER, idle=(needs('layer_decay'),))
    opt_foreach: bool | None = toggle('use the multi-tensor implementation of the optimizer')
    opt_kwargs: dict[str, Any] = keywords('further arguments of the optimizer', role=Role.OPTIMIZER)
    grad_accum_steps: int = setting(1, 'batches per update of the weights', type=NATURAL, metavar='N')


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings(Settings, title='learning rate'):
    """The learning rate schedule."""

    sched: str = setting(
        'cosine', 'schedule of the learning rate (default: cosine)', choices=SCHEDULES, null='none')
    sched_on_updates: bool = switch('change the learning rate at every update, not at every epoch', idle=(WARMED_UP,))
    lr: float | None = setting(
        None, 'learning rate (default: from --lr-base)', type=POSITIVE, metavar='LR', role=Role.OPTIMIZER)
    lr_base: float = setting(
        0.1, 'learning rate for --lr-base-size images per update', type=POSITIVE, metavar='LR', role=Role.START,
        idle=(replaced_by('lr'),))
    lr_base_size: int = setting(
        256, 'images per update that --lr-base is for', type=NATURAL, metavar='N', role=Role.START,
        idle=(replaced_by('lr'),))
    lr_base_scale: str = setting(
        '', 'how the learning rate grows with the images per update (default: by --opt)',
        choices=('linear', 'sqrt', ''), role=Role.START, idle=(replaced_by('lr'),))
    lr_noise: tuple[float, ...] | None = setting(
        None, 'add noise to the learning rate from this share of the epochs on, or between two', type=PROBABILITY,
        nargs='+', metavar='PCT', idle=(WARMED_UP,))
    lr_noise_pct: float = setting(
        0.67, 'limit of the noise of the learning rate', type=NON_NEGATIVE, metavar='PCT', idle=(needs('lr_noise'),))
    lr_noise_std: float = setting(
        1., 'standard deviation of the noise of the learning rate', type=NON_NEGATIVE, metavar='STD',
        idle=(needs('lr_noise'),))
    lr_cycle_mul: float = setting(
        1., 'factor by which cycles of the learning rate get longer', type=POSITIVE, metavar='F',
        idle=(CYCLIC, ONE_CYCLE))
    lr_cycle_decay: float = setting(
        0.5, 'factor of the learning rate from cycle to cycle', type=NON_NEGATIVE, metavar='F',
        idle=(CYCLIC, ONE_CYCLE))
    lr_cycle_limit: int = setting(
        1, 'number of cycles of the learning rate', type=NATURAL, metavar='N', idle=(CYCLIC,))
    lr_k_decay: float = setting(
        1., 'k of the k-decay of cosine and poly', type=POSITIVE, metavar='K',
        idle=(only_for('sched', 'cosine', 'poly'),))
    lr_decay_fn: str | None = setting(
        None, 'decay of wsd and rsqrt (default: 1-sqrt and linear)', metavar='NAME',
        idle=(only_for('sched', 'wsd', 'rsqrt'),))
    lr_stable_timescale: float | None = setting(
        None, 'time scale of rsqrt, in epochs', type=POSITIVE, metavar='N', idle=(only_for('sched', 'rsqrt'),))
    warmup_lr: float = setting(
        1e-5, 'learning rate at the start of the warm-up', type=NON_NEGATIVE, metavar='LR',
        idle=(needs('warmup_epochs'), WARMED_UP))
    min_lr: float = setting(
        0, 'lowest learning rate', type=NON_NEGATIVE, metavar='LR',
        idle=(only_for('sched', 'cosine', 'tanh', 'poly', 'wsd', 'rsqrt', 'plateau'),))
    epochs: int = setting(300, 'epochs of the schedule (default: 300)', type=NATURAL, metavar='N')
    epoch_repeats: float = setting(
        0., 'passes over an iterable data set per epoch', type=NON_NEGATIVE, metavar='N', idle=STREAMED)
    start_epoch: int | None = setting(
        None, 'number of the first epoch, when resuming', type=COUNT, metavar='N', role=Role.START)
    stop_epoch: int | None = setting(
        None, 'stop after this many epochs of the schedule', type=NATURAL, metavar='N', role=Role.START)
    decay_milestones: tuple[int, ...] = setting(
        (90, 180, 270), 'epochs at which multistep lowers the learning rate', type=COUNT, nargs='+', metavar='N',
        idle=(only_for('sched', 'multistep'),))
    decay_epochs: float | None = setting(
        None, 'interval of step (default: 90), or length of the decay of wsd (default: 0.2 of the schedule)',
        type=POSITIVE, metavar='N', idle=(only_for('sched', 'step', 'wsd', 'rsqrt'),))
    warmup_epochs: int = setting(5, 'epochs of warm-up (default: 5)', type=COUNT, metavar='N', idle=(WARMED_UP,))
    warmup_prefix: bool = switch('add the warm-up to the epochs of the schedule', idle=(needs('warmup_epochs'),))
    cooldown_epochs: int = setting(
        0, 'epochs at the lowest learning rate, after the schedule', type=COUNT, metavar='N',
        idle=(only_for('sched', 'cosine', 'tanh', 'poly', 'wsd', 'rsqrt'),))
    patience_epochs: int = setting(
        10, 'epochs without a better metric before plateau lowers the learning rate', type=COUNT, metavar='N',
        idle=(only_for('sched', 'plateau'),))
    decay_rate: float = setting(
        0.1, 'factor of step, multistep and plateau, exponent of poly', flags=('--dr',), type=POSITIVE, metavar='F',
        idle=(only_for('sched', 'step', 'multistep', 'poly', 'plateau'),))


@dataclass(frozen=True, kw_only=True)
class LossSettings(Settings, title='loss'):
    """The loss."""

    task: str = setting('classification', 'images have one label, or many', choices=('classification', 'multilabel'))
    loss: str | None = setting(None, 'loss (default: ce, and bce for --task multilabel)', choices=LOSS_TYPES)
    jsd_loss: bool = switch('older spelling of --loss jsd', role=Role.START)
    bce_loss: bool = switch('older spelling of --loss bce', role=Role.START)
    bce_sum: bool = switch('sum BCE over classes instead of taking the mean', idle=only_for('loss', 'bce'))
    bce_target_thresh: float | None = setting(
        None, 'threshold that makes soft BCE targets binary', type=PROBABILITY, metavar='T',
        idle=only_for('loss', 'bce'))
    bce_pos_weight: float | None = setting(
        None, 'older spelling of --loss-pos-weight', type=NON_NEGATIVE, metavar='W', role=Role.START,
        idle=replaced_by('loss_pos_weight'))
    loss_pos_weight: str | None = setting(
        None, 'weight of positive labels: a number, a list, CLASS=W for each class, a file, or neg_pos', nargs='+',
        action=WeightsAction, metavar='W')
    loss_class_weight: str | None = setting(
        None, 'weight of classes: a number, a list, CLASS=W for each class, a file, inv_freq or effective_num',
        nargs='+', action=WeightsAction, metavar='W')
    loss_weight_power: float = setting(
        1., 'exponent of computed class weights', type=NON_NEGATIVE, metavar='P', idle=(GIVEN_WEIGHTS,))
    loss_weight_beta: float = setting(
        0.999, 'beta of --loss-class-weight effective_num', type=BELOW_ONE, metavar='B', idle=(GIVEN_WEIGHTS,))
    loss_weight_max: float | None = setting(
        None, 'upper limit of computed class weights', type=POSITIVE, metavar='W', idle=(GIVEN_WEIGHTS,))
    class_stats: str | None = setting(
        None, 'JSON file with pos_counts, by label or class, and num_samples', metavar='FILE', idle=WITHOUT_STATS)
    asl_gamma_pos: float = setting(
        1., 'focusing parameter of asl for positives', type=NON_NEGATIVE, metavar='G', idle=(ASL,))
    asl_gamma_neg: float = setting(
        4., 'focusing parameter of asl for negatives', type=NON_NEGATIVE, metavar='G', idle=(ASL,))
    asl_clip: float = setting(0.05, 'probability margin of asl', type=BELOW_ONE, metavar='P', idle=(ASL,))
    asl_reduction: str = setting('batchmean', 'reduction of asl', choices=('batchmean', 'sum', 'mean'), idle=(ASL,))
    poly_epsilon: float = setting(2., 'coefficient of the poly loss', type=NUMBER, metavar='E', idle=(POLY,))
    poly_gamma: float = setting(0., 'focusing parameter of the poly loss', type=NON_NEGATIVE, metavar='G', idle=(POLY,))
    poly_alpha: float | None = setting(
        None, 'balancing parameter of the poly loss', type=PROBABILITY, metavar='A', idle=(POLY,))
    twoway_tp: float = setting(4., 'temperature of twoway for positives', type=POSITIVE, metavar='T', idle=(TWOWAY,))
    twoway_tn: float = setting(1., 'temperature of twoway for negatives', type=POSITIVE, metavar='T', idle=(TWOWAY,))
    db_neg_scale: float = setting(
        2., 'logit scale of the db loss for negatives', type=POSITIVE, metavar='S', idle=(DB,))
    db_init_bias: float = setting(0.05, 'prior shift of the db loss', type=NON_NEGATIVE, metavar='B', idle=(DB,))
    db_focal_gamma: float = setting(2., 'focusing parameter of the db loss', type=NON_NEGATIVE, metavar='G', idle=(DB,))
    multilabel_threshold: float = setting(
        0.5, 'probability from which F1 counts a label as predicted', type=PROBABILITY, metavar='P', role=Role.JUDGED,
        idle=(only_for('task', 'multilabel'),))
