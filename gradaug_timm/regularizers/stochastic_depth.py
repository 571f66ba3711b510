"""Stochastic depth of whole batches (Huang et al., arXiv 1603.09382), and residual branches scaled in evaluation.

timm's DropPath drops the branches of single images after computing them and rescales the others; here a block is left
out for the whole batch, which saves its computation, and evaluation scales its residual branch by its survival
probability.
"""
import torch
from torch import nn

from ..elastic.blocks import BLOCKS, drop_at_random, skippable_blocks
from .places import linear_decay, residual_places
from .registry import register_regularizer


class ResidualScale(nn.Module):
    """Multiplies a residual branch in evaluation, and leaves it as it is in training.

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
    """Leaves whole residual blocks of a network out at random, in place; takes the place of DropPath.

    In training mode block l runs with probability p_l, linear to the last block, else its shortcut alone; the draws
    come from torch's generator on the CPU. In evaluation mode its residual branch is multiplied by p_l. A dropped
    block's parameters get zeros as gradients: momentum and weight decay go on, and DDP doesn't wait for them.
    SyncBatchNorm would: it needs processes that drop the same blocks.

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
        raise ValueError(f'{type(model).__name__} has no residual blocks that can be left out; these can: {names}.')
    residual_places(model)
    for block, p in zip(blocks, linear_decay(len(blocks), survival)):
        drop_at_random(block, survival=p)
        block.drop_path = ResidualScale(p).train(block.training)
    return model


def scale_residuals(model: nn.Module, last: float) -> nn.Module:
    """Scales the residual branches of a network in evaluation mode, in place: linear from 1 at the first to `last`.

    So the original code evaluates its ResNet-110 of random depth, although its training doesn't scale anything.

    Args:
        model: A network of timm with places for DropPath, or one of our CIFAR networks.
        last: Factor of the last residual branch, the survival probability of the last block.

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
