"""Regularisers of residual networks as described in their papers; each is added to a network of timm in place.

State-dict keys do not change. Add regularisers before `make_elastic`.
"""
from .drop_block import DropBlock, DropBlockRamp, add_drop_block, drop_block
from .places import linear_decay, residual_places
from .shake_drop import LEVELS, ShakeDrop, add_shake_drop, shake
from .stochastic_depth import ResidualScale, add_stochastic_depth, scale_residuals

__all__ = [
    'LEVELS', 'DropBlock', 'DropBlockRamp', 'ResidualScale', 'ShakeDrop', 'add_drop_block', 'add_shake_drop',
    'add_stochastic_depth', 'drop_block', 'linear_decay', 'residual_places', 'scale_residuals', 'shake',
]
