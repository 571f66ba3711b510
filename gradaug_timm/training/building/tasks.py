"""The training task: plain, with GradAug, or timm's distillation."""
import logging
from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors import SafetensorError
from timm.data import resolve_data_config
from timm.loss import create_classification_loss
from timm.models import create_model, resolve_model_input_args
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
from ...mismatch import describe_mismatch, does_not_fit
from ...models.creation import current_name
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
        class_names: Sequence[str] | None = None,
) -> TrainingTask:
    """Build the task, with GradAug if `settings` are given.

    Args:
        args: The settings.
        network: The network.
        settings: The settings of GradAug; None if GradAug is off.
        process: The device.
        precision: Types of weights and activations.
        scaler: The loss scaler of float16.
        class_names: The names of the classes in the order of labels, for weights by name; None if they are unknown.

    Raises:
        ValueError: The teacher, the loss weights or the network do not fit together.
    """
    common: dict[str, Any] = dict(device=process.device, dtype=precision.model_dtype, verbose=process.primary)
    multi_label = args.task == 'multilabel'
    criterion = create_classification_loss(multi_label=multi_label, **loss_settings(args, class_names))
    criterion = criterion.to(process.device)
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
    """Return the network that a task trains, or the moving average with `ema` (the task must have one)."""
    return cast(nn.Module, task.get_trainable_module(ema=ema))


def loss_scale(scaler: NativeScaler | None) -> Callable[[], torch.Tensor | None] | None:
    """Return a function that returns the loss scale as a tensor on the device; None before the scaler's first use."""
    if scaler is None:
        return None
    return lambda: loss_scale_tensor(scaler)


def _build_distillation(args, network: nn.Module, criterion: nn.Module, common: dict) -> TrainingTask:
    common.update(
        student_model=network,
        criterion=criterion,
        distill_loss_weight=args.distill_loss_weight,
        task_loss_weight=args.task_loss_weight,
    )
    try:
        task = _distillation_task(args, {**common, **_teacher(args, network, common)})
    except (AttributeError, EOFError, OSError, RuntimeError, TypeError, UnpicklingError, SafetensorError) as error:
        weights = f' with --kd-checkpoint {args.kd_checkpoint}' if args.kd_checkpoint else ''
        reason = describe_mismatch(error) if does_not_fit(error) else one_line(error)
        raise ValueError(
            f'--kd-model-name {args.kd_model_name}{weights} cannot be used as a teacher: {reason}') from error
    _tell_normalisation(task, args)
    _warn_of_untrained_classes(task, args)
    return task


def _teacher(args: TrainSettings, network: nn.Module, common: dict) -> dict[str, Any]:
    """Return the arguments that name the teacher.

    timm creates a teacher for its own image size. One that accepts a single size is built for the images of the run;
    position embeddings are resized as the weights are loaded.
    """
    name = str(args.kd_model_name)
    size = resolve_data_config(vars(args), model=network, verbose=False)['input_size']
    sized = resolve_model_input_args(current_name(name), {'input_size': size})
    if 'img_size' not in sized or tuple(sized['pretrained_cfg']['input_size'][1:]) == tuple(size[1:]):
        return dict(teacher_model=name, teacher_pretrained_path=args.kd_checkpoint)
    overlay = dict(file=args.kd_checkpoint, num_classes=network.num_classes) if args.kd_checkpoint else None
    teacher = create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=network.num_classes,
        in_chans=size[0], img_size=sized['img_size'])
    return dict(teacher_model=teacher.to(device=common['device'], dtype=common['dtype']))


def _distillation_task(args, common: dict) -> TrainingTask:
    if args.kd_distill_type == 'logit':
        return LogitDistillationTask(loss_type=args.kd_loss_type, temperature=args.kd_temperature, **common)
    if args.kd_distill_type == 'token':
        return TokenDistillationTask(
            distill_type=args.kd_token_distill_type, temperature=args.kd_temperature, **common)
    return FeatureDistillationTask(
        student_feature_dim=args.kd_student_feature_dim, teacher_feature_dim=args.kd_teacher_feature_dim, **common)


def _tell_normalisation(task: TrainingTask, args) -> None:
    """Set the actual normalisation of images; timm assumes the student's default and converts it for the teacher."""
    for name in ('mean', 'std'):
        values = getattr(args, name)
        if values is not None:
            set_student_normalization(task, **{name: values})


def _warn_of_untrained_classes(task: TrainingTask, args) -> None:
    teacher = teacher_of(task)
    trained = teacher.pretrained_cfg['num_classes']
    if args.kd_distill_type != 'feature' and trained != teacher.num_classes:
        _logger.warning(
            f'The teacher {args.kd_model_name} was trained on {trained} classes, not {teacher.num_classes}: its '
            'classifier is random. Give matching weights with --kd-checkpoint.')
