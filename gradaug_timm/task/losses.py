"""Losses with which a sub-network learns the predictions of the full network."""
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
    """Return KL(softmax(full / T) || softmax(sub / T)) * T^2, mean over the batch, in float32.

    The paper (section 3) uses T = 1.

    Args:
        logits: Logits of the sub-network [N, classes].
        full_logits: Logits of the full network [N, classes], detached.
        temperature: Temperature T.
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
    """Return the binary cross-entropy of sigmoid(sub / T) with target sigmoid(full / T), times T^2, in float32.

    Args:
        logits: Logits of the sub-network [N, classes].
        full_logits: Logits of the full network [N, classes], detached.
        temperature: Temperature T.
        sum_classes: Sum over classes and take the mean over the batch, instead of the mean over both.
    """
    target = torch.sigmoid(full_logits.float() / temperature)
    loss = F.binary_cross_entropy_with_logits(logits.float() / temperature, target)
    return loss * temperature ** 2 * (logits.shape[-1] if sum_classes else 1)


def subnet_loss_for(criterion: nn.Module | Callable, multi_label: bool = False) -> Callable[..., torch.Tensor]:
    """Return the loss of sub-networks that matches a criterion: `loss(logits, full_logits, temperature)`.

    Args:
        criterion: Criterion of the full network.
        multi_label: Treat classes as independent even if the criterion does not imply it.

    Raises:
        ValueError: The criterion splits the batch, or is not a mean over the batch.
    """
    parts = list(criterion.modules()) if isinstance(criterion, nn.Module) else [criterion]
    if any(isinstance(part, timm_loss.JsdCrossEntropy) for part in parts):
        raise ValueError('GradAug does not support the criterion JsdCrossEntropy, which divides the batch into splits.')
    reduction = getattr(criterion, 'reduction', 'mean')
    if reduction in ('sum', 'none') and not getattr(criterion, 'sum_classes', False):
        raise ValueError(
            f'GradAug does not support {type(criterion).__name__} with reduction={reduction!r}: use a mean.')
    independent = any(isinstance(part, SIGMOID_CRITERIA) or part in SIGMOID_FUNCTIONS for part in parts)
    if not multi_label and not independent:
        return softmax_divergence
    sum_classes = any(
        getattr(part, 'sum_classes', False) or getattr(part, 'reduction', '') == 'batchmean' for part in parts)
    return lambda logits, full_logits, temperature: sigmoid_divergence(logits, full_logits, temperature, sum_classes)
