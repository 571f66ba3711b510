"""Stochastic depth of whole batches (Huang et al., arXiv 1603.09382), and residual branches scaled in evaluation.

timm's DropPath computes all branches, drops them for single images, and rescales the other images. Here a block is
skipped for the whole batch, which saves computation, and evaluation scales each residual branch by the survival
probability of the block.
"""
import torch
from torch import nn

from ..elastic.blocks import BLOCKS, drop_at_random, skippable_blocks
from .places import linear_decay, residual_places
from .registry import register_regularizer


class ResidualScale(nn.Module):
    """Layer that multiplies a residual branch by a factor in evaluation and does nothing in training.

    Args:
        factor: The factor.
    """

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.training else x * self.factor

    def extra_repr(self) -> str:
        return f'factor={self.factor:.4g}'


@register_regularizer('stoch_depth', in_evaluation=True, has_flags=True)
def add_stochastic_depth(model: nn.Module, survival: float = 0.5) -> nn.Module:
    """Add stochastic depth to a network, in place: whole residual blocks are skipped at random. It replaces DropPath.

    In training mode block l runs with probability p_l, otherwise only the shortcut runs; p_l decreases linearly to
    `survival` at the last block. The draws come from torch's generator on the CPU. In evaluation mode the residual
    branch is multiplied by p_l. The parameters of a skipped block get zero gradients, so momentum and weight decay
    still apply and DDP does not hang. With SyncBatchNorm all processes must skip the same blocks.

    Args:
        model: A network with blocks that random depth may skip.
        survival: Probability p_L that the last block runs.

    Returns:
        `model`.

    Raises:
        ValueError: `model` has no such blocks, or `survival` is out of range.
    """
    blocks = skippable_blocks(model)
    if not blocks:
        names = ', '.join(sorted(plain.__name__ for plain in BLOCKS))
        raise ValueError(
            f'{type(model).__name__} has no residual blocks that can be skipped; supported blocks: {names}.')
    residual_places(model)
    for block, p in zip(blocks, linear_decay(len(blocks), survival)):
        drop_at_random(block, survival=p)
        block.drop_path = ResidualScale(p).train(block.training)
    return model


def scale_residuals(model: nn.Module, last: float) -> nn.Module:
    """Scale residual branches in evaluation mode, in place: the factor falls linearly from 1 at the first to `last`.

    The original code evaluates the ResNet-110 of random depth in this way, although training scales nothing.

    Args:
        model: A network of timm with places for DropPath, or one of our CIFAR networks.
        last: Factor of the last residual branch, which is the survival probability of the last block.

    Returns:
        `model`.

    Raises:
        ValueError: `model` has no such place.
    """
    places = residual_places(model)
    for index, (block, name) in enumerate(places):
        factor = 1 - (1 - last) * index / max(1, len(places) - 1)
        setattr(block, name, ResidualScale(factor).train(block.training))
    return model
