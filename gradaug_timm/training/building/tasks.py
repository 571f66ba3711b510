"""The training task that the flags name: plain, with GradAug, or timm's distillation."""
import logging
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors import SafetensorError
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

from ...cli import one_line
from ...task.gradaug import GradAugTask, MultiLabelGradAugTask
from ...task.settings import GradAugSettings
from ...upstream import loss_scale_tensor, set_student_normalization, teacher_of
from ..arguments.criteria import loss_settings
from ..arguments.settings import TrainSettings
from ..processes import Precision, Process

_logger = logging.getLogger(__name__)


def build_task(
        args: TrainSettings,
        network: nn.Module,
        settings: GradAugSettings | None,
        process: Process,
        precision: Precision,
        scaler: NativeScaler | None,
) -> TrainingTask:
    """The task that turns a batch into a loss; `settings` turn GradAug on.

    Raises:
        ValueError: The teacher, the loss weights or the network don't fit.
    """
    common: dict[str, Any] = dict(device=process.device, dtype=precision.model_dtype, verbose=process.primary)
    multi_label = args.task == 'multilabel'
    criterion = create_classification_loss(multi_label=multi_label, **loss_settings(args)).to(process.device)
    if args.kd_model_name:
        return _build_distillation(args, network, criterion, common)
    if settings is None:
        plain = MultiLabelClassificationTask if multi_label else ClassificationTask
        task = plain(network, criterion, **common)
    else:
        gradaug = MultiLabelGradAugTask if multi_label else GradAugTask
        task = gradaug(network, criterion, settings=settings, loss_scale=loss_scale(scaler), **common)
    if multi_label:
        task.threshold = args.multilabel_threshold  # type: ignore[assignment]
    return task


def network_of(task: TrainingTask, *, ema: bool = False) -> nn.Module:
    """Return the network that a task trains, or its moving average, which it must have."""
    return cast(nn.Module, task.get_trainable_module(ema=ema))


def loss_scale(scaler: NativeScaler | None) -> Callable[[], torch.Tensor | None] | None:
    """The scale as a tensor, which `get_scale` would read from the device; None before the scaler's first use."""
    if scaler is None:
        return None
    return lambda: loss_scale_tensor(scaler)


def _build_distillation(args, network: nn.Module, criterion: nn.Module, common: dict) -> TrainingTask:
    common.update(
        student_model=network,
        teacher_model=args.kd_model_name,
        teacher_pretrained_path=args.kd_checkpoint,
        criterion=criterion,
        distill_loss_weight=args.distill_loss_weight,
        task_loss_weight=args.task_loss_weight,
    )
    try:
        task = _distillation_task(args, common)
    except (AttributeError, EOFError, OSError, RuntimeError, TypeError, UnpicklingError, SafetensorError) as error:
        weights = f' with --kd-checkpoint {args.kd_checkpoint}' if args.kd_checkpoint else ''
        raise ValueError(f'--kd-model-name {args.kd_model_name}{weights} cannot teach: {one_line(error)}') from error
    _tell_normalisation(task, args)
    _warn_of_untrained_classes(task, args)
    return task


def _distillation_task(args, common: dict) -> TrainingTask:
    if args.kd_distill_type == 'logit':
        return LogitDistillationTask(loss_type=args.kd_loss_type, temperature=args.kd_temperature, **common)
    if args.kd_distill_type == 'token':
        return TokenDistillationTask(
            distill_type=args.kd_token_distill_type, temperature=args.kd_temperature, **common)
    return FeatureDistillationTask(
        student_feature_dim=args.kd_student_feature_dim, teacher_feature_dim=args.kd_teacher_feature_dim, **common)


def _tell_normalisation(task: TrainingTask, args) -> None:
    """How images really are normalised; timm takes the student's default, and converts that to the teacher's."""
    for name in ('mean', 'std'):
        values = getattr(args, name)
        if values is not None:
            set_student_normalization(task, **{name: values})


def _warn_of_untrained_classes(task: TrainingTask, args) -> None:
    teacher = teacher_of(task)
    trained = teacher.pretrained_cfg['num_classes']
    if args.kd_distill_type != 'feature' and trained != teacher.num_classes:
        _logger.warning(
            f'{args.kd_model_name} was trained on {trained} classes, not on {teacher.num_classes}: its classifier is '
            'random. Give weights that fit by --kd-checkpoint.')
