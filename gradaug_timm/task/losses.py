"""The loss by which a sub-network learns what the full network predicts."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm import loss as timm_loss
from torch import nn

SIGMOID_CRITERIA = (
    nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss, timm_loss.BinaryCrossEntropy, timm_loss.AsymmetricLossMultiLabel,
    timm_loss.PolyBinaryCrossEntropy, timm_loss.TwoWayLoss, timm_loss.ZlprLoss, timm_loss.DistributionBalancedLoss,
)
SIGMOID_FUNCTIONS = (F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss)


def softmax_divergence(logits: torch.Tensor, full_logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """KL(softmax(full / T) || softmax(sub / T)) * T^2, mean over the batch, in float32 (paper, section 3: T = 1).

    Args:
        logits: The sub-network's [N, classes].
        full_logits: The full network's [N, classes], detached.
        temperature: T.
    """
    log_q = F.log_softmax(full_logits.float() / temperature, dim=-1)
    log_p = F.log_softmax(logits.float() / temperature, dim=-1)
    return F.kl_div(log_p, log_q, reduction='batchmean', log_target=True) * temperature ** 2


def sigmoid_divergence(
        logits: torch.Tensor,
        full_logits: torch.Tensor,
        temperature: float = 1.0,
        sum_classes: bool = False,
) -> torch.Tensor:
    """Binary cross-entropy of sigmoid(sub / T) with sigmoid(full / T) as target, * T^2, in float32.

    Args:
        logits: The sub-network's [N, classes].
        full_logits: The full network's [N, classes], detached.
        temperature: T.
        sum_classes: Sum over classes, mean over the batch, in place of the mean over both.
    """
    target = torch.sigmoid(full_logits.float() / temperature)
    loss = F.binary_cross_entropy_with_logits(logits.float() / temperature, target)
    return loss * temperature ** 2 * (logits.shape[-1] if sum_classes else 1)


def subnet_loss_for(criterion: nn.Module | Callable, multi_label: bool = False) -> Callable[..., torch.Tensor]:
    """The sub-networks' loss that goes with the full network's criterion: `loss(logits, full_logits, temperature)`.

    Args:
        criterion: Criterion of the full network.
        multi_label: Whether classes are independent of each other, where the criterion doesn't tell.

    Raises:
        ValueError: The criterion divides the batch, or isn't a mean over it.
    """
    parts = list(criterion.modules()) if isinstance(criterion, nn.Module) else [criterion]
    if any(isinstance(part, timm_loss.JsdCrossEntropy) for part in parts):
        raise ValueError('GradAug refuses the criterion JsdCrossEntropy, which divides the batch into splits.')
    reduction = getattr(criterion, 'reduction', 'mean')
    if reduction in ('sum', 'none') and not getattr(criterion, 'sum_classes', False):
        raise ValueError(
            f'GradAug refuses {type(criterion).__name__} with reduction={reduction!r}: it must be a mean.')
    independent = any(isinstance(part, SIGMOID_CRITERIA) or part in SIGMOID_FUNCTIONS for part in parts)
    if not multi_label and not independent:
        return softmax_divergence
    sum_classes = any(
        getattr(part, 'sum_classes', False) or getattr(part, 'reduction', '') == 'batchmean' for part in parts)
    return lambda logits, full_logits, temperature: sigmoid_divergence(logits, full_logits, temperature, sum_classes)
