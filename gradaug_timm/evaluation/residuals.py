"""Residual branches in evaluation: scaled by what regularisers made of them in training."""
import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..flags import flag
from ..regularizers import add_shake_drop, add_stochastic_depth, scale_residuals
from .checks import SCALINGS
from .settings import OpeningSettings

_logger = logging.getLogger(__name__)


def scale_branches(model: nn.Module, settings: OpeningSettings, trained: Mapping[str, Any]) -> dict[str, float]:
    """Scale residual branches as the settings say; where they don't, as the checkpoint was trained.

    Args:
        model: The network, which is changed.
        settings: The scaling.
        trained: The settings that the checkpoint was trained with.

    Returns:
        The scaling by its name; empty where the branches stay as they are.

    Raises:
        ValueError: The model has no such branches.
    """
    asked = {name: getattr(settings, name) for name in SCALINGS if getattr(settings, name) is not None}
    chosen = asked or {name: trained[name] for name in SCALINGS if trained.get(name) is not None}
    for name, value in chosen.items():
        try:
            if name == 'shake_drop':
                low, high = trained.get('shake_drop_alpha') or (-1., 1.)
                add_shake_drop(model, value, alpha=(low, high))
            elif name == 'stoch_depth':
                add_stochastic_depth(model, value)
            else:
                scale_residuals(model, value)
        except ValueError as error:
            raise ValueError(f'{flag(name)} {value:g} can\'t be used with --model {settings.model}: {error}') from error
        _logger.info(f'Residual branches are scaled for {name} {value:g}'
                     f'{"" if asked else ", as the checkpoint was trained"}.')
    return chosen
