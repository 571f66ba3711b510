"""The loss that the settings name."""
import torch
from timm.loss import load_class_stats, resolve_class_weights

from .settings import TrainSettings

# flags that timm's loss factory takes by the same name
_BY_NAME = (
    'bce_target_thresh', 'bce_sum', 'asl_gamma_pos', 'asl_gamma_neg', 'asl_clip', 'asl_reduction', 'poly_epsilon',
    'poly_gamma', 'poly_alpha', 'twoway_tp', 'twoway_tn', 'db_neg_scale', 'db_init_bias', 'db_focal_gamma',
)


def mixing_active(args: TrainSettings) -> bool:
    """Whether Mixup or CutMix is on."""
    return args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax is not None


def loss_settings(args: TrainSettings) -> dict:
    """Arguments of timm's `create_classification_loss`.

    Raises:
        ValueError: The files of weights or class counts don't fit.
    """
    stats = load_class_stats(args.class_stats)
    counts = {'class_counts': stats[0], 'num_samples': stats[1]} if stats and args.loss == 'db' else {}
    return dict(
        loss_type=args.loss,
        smoothing=args.smoothing,
        soft_targets=mixing_active(args),
        class_weight=_weights(args, 'class_weight', stats),
        pos_weight=_weights(args, 'pos_weight', stats),
        jsd_splits=args.aug_splits,
        **{name: getattr(args, name) for name in _BY_NAME},
        **counts,
    )


def _weights(args: TrainSettings, kind: str, stats):
    value = getattr(args, f'loss_{kind}')
    weights = resolve_class_weights(
        value, kind, stats, power=args.loss_weight_power, beta=args.loss_weight_beta, max_weight=args.loss_weight_max)
    if isinstance(weights, torch.Tensor) and args.num_classes and weights.numel() != args.num_classes:
        flag = f'--loss-{kind.replace("_", "-")}'
        raise ValueError(f'{flag} has {weights.numel()} entries for {args.num_classes} classes')
    return weights
