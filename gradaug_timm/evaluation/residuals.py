"""Residual branches in evaluation: scaled by what regularisers made of them in training."""
import logging

from torch import nn

from ..regularizers import REGULARIZERS, add_regularizers, add_shake_drop, add_stochastic_depth, scale_residuals
from .arguments import SCALINGS
from .network import training_arguments

_logger = logging.getLogger(__name__)


def scale_branches(model: nn.Module, args) -> dict[str, float]:
    """Scales residual branches as the arguments say; where they don't, as the checkpoint was trained.

    Returns:
        The scaling by its flag's name; empty where the branches stay as they are.

    Raises:
        ValueError: The model has no such branches, or a regulariser of the training isn't registered.
    """
    trained = training_arguments(args.checkpoint)
    _add_registered(model, trained.get('regularizer') or {})
    asked = {name: getattr(args, name) for name in SCALINGS if getattr(args, name) is not None}
    chosen = asked or {name: trained[name] for name in SCALINGS if trained.get(name) is not None}
    for name, value in chosen.items():
        try:
            if name == 'shake_drop':
                add_shake_drop(model, value, alpha=tuple(trained.get('shake_drop_alpha') or (-1., 1.)))
            elif name == 'stoch_depth':
                add_stochastic_depth(model, value)
            else:
                scale_residuals(model, value)
        except ValueError as error:
            flag = f'--{name.replace("_", "-")}'
            raise ValueError(f'{flag} {value:g} can\'t be used with --model {args.model}: {error}') from error
        _logger.info(f'Residual branches are scaled for {name} {value:g}'
                     f'{"" if asked else ", as the checkpoint was trained"}.')
    return chosen


def _add_registered(model: nn.Module, trained: dict[str, dict]) -> None:
    """Add the regularisers without flags of their own that training used and that change evaluation."""
    chosen = {name: settings for name, settings in trained.items() if REGULARIZERS.find(name).in_evaluation}
    add_regularizers(model, chosen)
    if chosen:
        _logger.info(f'Regularisers that act in evaluation: {", ".join(chosen)}, as the checkpoint was trained.')
