"""Regularisers of residual networks as described in their papers; each is added to a network of timm in place.

State-dict keys do not change. Add regularisers before `make_elastic`. Every module here is imported automatically.
"""
from ..registry import import_modules
from .drop_block import DropBlock, DropBlockRamp, add_drop_block, drop_block
from .places import linear_decay, residual_places
from .registry import REGULARIZERS, add_regularizers, complete_settings, in_order, register_regularizer
from .shake_drop import LEVELS, ShakeDrop, add_shake_drop, shake
from .stochastic_depth import ResidualScale, add_stochastic_depth, scale_residuals

__all__ = [
    'LEVELS', 'REGULARIZERS', 'DropBlock', 'DropBlockRamp', 'ResidualScale', 'ShakeDrop', 'add_drop_block',
    'add_regularizers', 'add_shake_drop', 'add_stochastic_depth', 'complete_settings', 'drop_block', 'in_order',
    'linear_decay', 'register_regularizer', 'residual_places', 'scale_residuals', 'shake',
]

import_modules(__name__, __path__)
