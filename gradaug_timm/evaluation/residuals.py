"""Residual branches in evaluation: scaled by what regularisers made of them in training."""
import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..cli import flag
from ..regularizers import REGULARIZERS, add_regularizers, add_shake_drop, add_stochastic_depth, scale_residuals
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
    _add_registered(model, trained.get('regularizer') or {})
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


def _add_registered(model: nn.Module, trained: Mapping[str, dict]) -> None:
    """Add the regularisers without separate flags that training used and that change evaluation."""
    unknown = [name for name in trained if name not in REGULARIZERS]
    if unknown:
        _logger.warning(f'The checkpoint was trained with {", ".join(unknown)}, which no imported module registers. If '
                        'it changes the network in evaluation, name its module: --device-modules MODULE.')
    known = {name: settings for name, settings in trained.items() if name in REGULARIZERS}
    chosen = {name: settings for name, settings in known.items() if REGULARIZERS[name].in_evaluation}
    add_regularizers(model, chosen)
    if chosen:
        _logger.info(f'Regularisers that act in evaluation: {", ".join(chosen)}, as the checkpoint was trained.')
