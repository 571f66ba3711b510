"""The training task that the flags name: plain, with GradAug, or timm's distillation."""
import argparse
from collections.abc import Callable

import torch
from timm.loss import create_classification_loss
from timm.task import (
    ClassificationTask,
    FeatureDistillationTask,
    LogitDistillationTask,
    MultiLabelClassificationTask,
    TokenDistillationTask,
    TrainingTask,
)
from timm.utils import NativeScaler
from torch import nn

from ..settings import GradAugSettings
from ..task import GradAugTask, MultiLabelGradAugTask
from .criteria import loss_settings
from .host import Host, Precision


def build_task(
        args: argparse.Namespace,
        network: nn.Module,
        settings: GradAugSettings | None,
        host: Host,
        precision: Precision,
        scaler: NativeScaler | None,
) -> TrainingTask:
    """The task that turns a batch into a loss; `settings` turn GradAug on.

    Raises:
        ValueError: The teacher, the loss weights or the network don't fit.
    """
    common = dict(device=host.device, dtype=precision.model_dtype, verbose=host.primary)
    multi_label = args.task == 'multilabel'
    criterion = create_classification_loss(multi_label=multi_label, **loss_settings(args)).to(host.device)
    if args.kd_model_name:
        try:
            return _build_distillation(args, network, criterion, common)
        except RuntimeError as error:
            raise ValueError(f'--kd-model-name {args.kd_model_name} cannot teach: {error}') from error
    if settings is None:
        plain = MultiLabelClassificationTask if multi_label else ClassificationTask
        task = plain(network, criterion, **common)
    else:
        gradaug = MultiLabelGradAugTask if multi_label else GradAugTask
        task = gradaug(network, criterion, settings=settings, loss_scale=_loss_scale(scaler), **common)
    if multi_label:
        task.threshold = args.multilabel_threshold
    return task


def _loss_scale(scaler: NativeScaler | None) -> Callable[[], torch.Tensor | None] | None:
    """The scale as a tensor, which `get_scale` would read from the device; None before the scaler's first use."""
    if scaler is None:
        return None
    return lambda: scaler._scaler._scale


def _build_distillation(args, network: nn.Module, criterion: nn.Module, common: dict) -> TrainingTask:
    common.update(
        student_model=network,
        teacher_model=args.kd_model_name,
        criterion=criterion,
        distill_loss_weight=args.distill_loss_weight,
        task_loss_weight=args.task_loss_weight,
    )
    if args.kd_distill_type == 'logit':
        return LogitDistillationTask(loss_type=args.kd_loss_type, temperature=args.kd_temperature, **common)
    if args.kd_distill_type == 'token':
        return TokenDistillationTask(
            distill_type=args.kd_token_distill_type, temperature=args.kd_temperature, **common)
    return FeatureDistillationTask(
        student_feature_dim=args.kd_student_feature_dim, teacher_feature_dim=args.kd_teacher_feature_dim, **common)
