"""Settings of the network, the initial weights and the teacher."""
from dataclasses import dataclass
from typing import Any

from ...flags import Role, Settings, keywords, needs, only_for, replaced_by, setting, switch
from .conditions import ONE_PROCESS, SYNCHRONIZED
from .values import BELOW_ONE, NATURAL, NON_NEGATIVE, NUMBER, POSITIVE


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings, title='model'):
    """The network and the initial weights."""

    model: str = setting(
        'resnet50', 'any timm model, or gradaug_NAME to train it with GradAug (default: resnet50)', metavar='NAME',
        role=Role.COMPARED)
    pretrained: bool = switch(
        'start from the pretrained weights of timm', role=Role.START, idle=replaced_by('initial_checkpoint'))
    pretrained_path: str | None = setting(
        None, 'start from this file of pretrained weights; the head is adapted to the classes', metavar='FILE',
        role=Role.START, idle=replaced_by('initial_checkpoint'))
    pretrained_cfg_overlay: dict[str, Any] = keywords('changes to the pretrained configuration of the model')
    initial_checkpoint: str = setting(
        '', 'load this checkpoint, which must fit the model exactly', metavar='FILE', role=Role.START)
    num_classes: int | None = setting(
        None, 'number of classes (default: the number of the model)', type=NATURAL, metavar='N')
    gp: str | None = setting(None, 'global pooling: fast, avg, max, avgmax, avgmaxc', metavar='POOL')
    model_kwargs: dict[str, Any] = keywords('further arguments of the model')
    head_init_scale: float | None = setting(
        None, 'factor for the initial weights of the classifier', type=NUMBER, metavar='SCALE', role=Role.START)
    head_init_bias: float | None = setting(
        None, 'initial bias of the classifier', type=NUMBER, metavar='BIAS', role=Role.START)
    drop: float | None = setting(
        0., 'dropout before the classifier; none: the rate of the model', type=BELOW_ONE, metavar='P', null=None)
    drop_connect: float | None = setting(
        None, 'older spelling of --drop-path', type=BELOW_ONE, metavar='P', role=Role.START,
        idle=replaced_by('drop_path'))
    drop_path: float | None = setting(
        None, 'stochastic depth: probability that an image skips the last residual branch', type=BELOW_ONE, metavar='P')
    drop_block: float | None = setting(None, 'DropBlock rate, as in timm', type=BELOW_ONE, metavar='P')
    grad_checkpointing: bool = switch('recompute activations in the backward pass to save memory')
    fast_norm: bool = switch('run norm layers in low precision')


@dataclass(frozen=True, kw_only=True)
class NormSettings(Settings, title='batch norm'):
    """Norm layers."""

    bn_momentum: float | None = setting(
        None, 'momentum of the running statistics of BatchNorm', type=BELOW_ONE, metavar='M')
    bn_eps: float | None = setting(None, 'epsilon of BatchNorm', type=POSITIVE, metavar='EPS')
    sync_bn: bool = switch('compute batch statistics over all processes', idle=(ONE_PROCESS,))
    dist_bn: str = setting(
        'reduce',
        'share running statistics after each epoch: the mean of all processes, those of the first, or not at all '
        '(default: reduce)', choices=('broadcast', 'reduce', ''), null='', idle=(ONE_PROCESS, SYNCHRONIZED))
    split_bn: bool = switch('separate BatchNorm layers for each part of --aug-splits')


@dataclass(frozen=True, kw_only=True)
class DistillationSettings(Settings, title='distillation', idle=(needs('kd_model_name'),)):
    """timm's distillation tasks, which exclude GradAug."""

    kd_model_name: str | None = setting(None, 'distillation: model of the teacher', metavar='NAME')
    kd_checkpoint: str | None = setting(
        None, 'distillation: checkpoint of the teacher (default: pretrained weights of timm)', metavar='FILE',
        role=Role.START)
    kd_distill_type: str = setting(
        'logit', 'distillation: what the student learns from the teacher', choices=('logit', 'feature', 'token'))
    kd_loss_type: str = setting(
        'kl', 'distillation: loss between logits', choices=('kl',), idle=only_for('kd_distill_type', 'logit'))
    distill_loss_weight: float | None = setting(
        None, 'distillation: weight of the distillation loss', type=NON_NEGATIVE, metavar='W')
    task_loss_weight: float | None = setting(
        None, 'distillation: weight of the classification loss', type=NON_NEGATIVE, metavar='W')
    kd_temperature: float = setting(
        4., 'distillation: temperature of the softmax (default: 4)', type=POSITIVE, metavar='T',
        idle=only_for('kd_distill_type', 'logit', 'token'))
    kd_student_feature_dim: int | None = setting(
        None, 'distillation: number of features of the student', type=NATURAL, metavar='N',
        idle=only_for('kd_distill_type', 'feature'))
    kd_teacher_feature_dim: int | None = setting(
        None, 'distillation: number of features of the teacher', type=NATURAL, metavar='N',
        idle=only_for('kd_distill_type', 'feature'))
    kd_token_distill_type: str = setting(
        'soft', 'distillation: targets of the distillation token', choices=('soft', 'hard'),
        idle=only_for('kd_distill_type', 'token'))
