"""Settings of the network, its start and its teacher."""
from dataclasses import dataclass
from typing import Any

from ...flags import Role, Settings, keywords, needs, setting, switch
from .conditions import ONE_PROCESS, SYNCHRONIZED
from .values import BELOW_ONE, NATURAL, NON_NEGATIVE, NUMBER, POSITIVE


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings, title='model'):
    """Which network is trained, and from what."""

    model: str = setting(
        'resnet50', 'any model of timm, or gradaug_* (default: resnet50)', metavar='NAME', role=Role.COMPARED)
    pretrained: bool = switch('start from timm\'s weights', role=Role.START)
    pretrained_path: str | None = setting(
        None, 'start from this file as if it were timm\'s weights', metavar='FILE', role=Role.START)
    pretrained_cfg_overlay: dict[str, Any] = keywords('changes to the model\'s pretrained configuration')
    initial_checkpoint: str = setting('', 'load this checkpoint into the new model', metavar='FILE', role=Role.START)
    num_classes: int | None = setting(None, 'classes (default: the model\'s)', type=NATURAL, metavar='N')
    gp: str | None = setting(None, 'global pooling: fast, avg, max, avgmax, avgmaxc', metavar='POOL')
    model_kwargs: dict[str, Any] = keywords('arguments of the model')
    head_init_scale: float | None = setting(
        None, 'factor on the classifier\'s initial weights', type=NUMBER, metavar='SCALE', role=Role.START)
    head_init_bias: float | None = setting(
        None, 'initial bias of the classifier', type=NUMBER, metavar='BIAS', role=Role.START)
    drop: float = setting(0., 'dropout before the classifier', type=BELOW_ONE, metavar='P')
    drop_connect: float | None = setting(
        None, 'older name of --drop-path', type=BELOW_ONE, metavar='P', role=Role.START)
    drop_path: float | None = setting(None, 'stochastic depth of single images', type=BELOW_ONE, metavar='P')
    drop_block: float | None = setting(None, 'DropBlock', type=BELOW_ONE, metavar='P')
    grad_checkpointing: bool = switch('recompute activations in backward to save memory')
    fast_norm: bool = switch('normalise in low precision')


@dataclass(frozen=True, kw_only=True)
class NormSettings(Settings, title='batch norm'):
    """Norm layers."""

    bn_momentum: float | None = setting(None, 'momentum of the running statistics', type=BELOW_ONE, metavar='M')
    bn_eps: float | None = setting(None, 'epsilon of the layers', type=POSITIVE, metavar='EPS')
    sync_bn: bool = switch('batch statistics over all processes', idle=(ONE_PROCESS,))
    dist_bn: str = setting(
        'reduce', 'running statistics of the processes after an epoch (default: reduce)',
        choices=('broadcast', 'reduce', ''), idle=(ONE_PROCESS, SYNCHRONIZED))
    split_bn: bool = switch('own layers for each part of --aug-splits')


@dataclass(frozen=True, kw_only=True)
class DistillationSettings(Settings, title='distillation', idle=(needs('kd_model_name'),)):
    """timm's distillation tasks; not together with GradAug."""

    kd_model_name: str | None = setting(None, 'teacher', metavar='NAME')
    kd_checkpoint: str | None = setting(None, 'file of its weights (default: timm\'s)', metavar='FILE', role=Role.START)
    kd_distill_type: str = setting('logit', 'what the teacher shows', choices=('logit', 'feature', 'token'))
    kd_loss_type: str = setting('kl', 'loss on the logits', choices=('kl',))
    distill_loss_weight: float | None = setting(None, 'weight of the distillation loss', type=NON_NEGATIVE, metavar='W')
    task_loss_weight: float | None = setting(None, 'weight of the classification loss', type=NON_NEGATIVE, metavar='W')
    kd_temperature: float = setting(4., 'temperature of the softmax (default: 4)', type=POSITIVE, metavar='T')
    kd_student_feature_dim: int | None = setting(None, 'features of the student', type=NATURAL, metavar='N')
    kd_teacher_feature_dim: int | None = setting(None, 'features of the teacher', type=NATURAL, metavar='N')
    kd_token_distill_type: str = setting('soft', 'targets of token distillation', choices=('soft', 'hard'))
