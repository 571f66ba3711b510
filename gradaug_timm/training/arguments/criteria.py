"""The loss that the settings select."""
from collections.abc import Sequence
from typing import Any

import torch
from timm.loss import resolve_class_weights

from .class_weights import by_label, given_by_name, names_in_stats, read_stats
from .settings import TrainSettings

# flags that timm's loss factory takes by the same name
_BY_NAME = (
    'bce_target_thresh', 'bce_sum', 'asl_gamma_pos', 'asl_gamma_neg', 'asl_clip', 'asl_reduction', 'poly_epsilon',
    'poly_gamma', 'poly_alpha', 'twoway_tp', 'twoway_tn', 'db_neg_scale', 'db_init_bias', 'db_focal_gamma',
)


def mixing_active(args: TrainSettings) -> bool:
    """Return whether Mixup or CutMix is on."""
    return args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax is not None


def loss_settings(args: TrainSettings, names: Sequence[str] | None = None, *, checked: bool = True) -> dict:
    """Return the arguments of timm's `create_classification_loss`.

    Args:
        args: The settings.
        names: The names of the classes in the order of labels; None if they are unknown.
        checked: Whether the names are final. Before the data is read, weights by name are only tried.

    Raises:
        ValueError: The files of weights or class counts do not fit the classes.
    """
    stats = read_stats(args.class_stats, names if checked else names_in_stats(args.class_stats))
    counts = {'class_counts': stats[0], 'num_samples': stats[1]} if stats and args.loss == 'db' else {}
    return dict(
        loss_type=args.loss,
        smoothing=args.smoothing,
        soft_targets=mixing_active(args),
        class_weight=_weights(args, 'class_weight', stats, names, checked),
        pos_weight=_weights(args, 'pos_weight', stats, names, checked),
        jsd_splits=args.aug_splits,
        **{name: getattr(args, name) for name in _BY_NAME},
        **counts,
    )


def _weights(args: TrainSettings, kind: str, stats, names: Sequence[str] | None, checked: bool):
    value: Any = getattr(args, f'loss_{kind}')
    named = given_by_name(value)
    if named is not None:
        value = by_label(named, names if checked else list(named), f'--loss-{kind.replace("_", "-")}')
    weights = resolve_class_weights(
        value, kind, stats, power=args.loss_weight_power, beta=args.loss_weight_beta, max_weight=args.loss_weight_max)
    if isinstance(weights, torch.Tensor) and args.num_classes and weights.numel() != args.num_classes:
        flag = f'--loss-{kind.replace("_", "-")}'
        raise ValueError(f'{flag} must have {args.num_classes} entries, one per class, not {weights.numel()}')
    return weights
