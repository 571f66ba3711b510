"""Ends of the residual branches of a network, and the survival probabilities of the branches."""
import re

from timm.layers import DropPath
from timm.models import rdnet, regnet, xception_aligned
from torch import nn

NAME = re.compile(r'(\w+_)?drop_path\d?')
# If one of these attributes is false or None, most blocks of timm have the place but no addition.
SHORTCUTS = ('has_skip', 'use_shortcut', 'add_identity', 'residual', 'identity', 'shortcut')


def residual_places(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return block and attribute name of every place before an addition where timm puts DropPath, or may; in order.

    Raises:
        ValueError: The network has no such place, or another module is already there.
    """
    places = [(module, name) for module in model.modules() if _adds(module) for name in _place_names(module)]
    for block, name in places:
        if not isinstance(getattr(block, name), nn.Identity | DropPath | None):
            raise ValueError(f'{type(model).__name__} already has {type(getattr(block, name)).__name__} at the end of '
                             'residual branches.')
    if not places:
        raise ValueError(f'{type(model).__name__} has no place for it: no module has DropPath at the end of a residual '
                         'branch.')
    return places


def _adds(block: nn.Module) -> bool:
    """Return whether a block adds the output of residual branches to something."""
    match block:
        case xception_aligned.XceptionModule() | xception_aligned.PreXceptionModule():
            return not block.no_skip
        case regnet.Bottleneck() | regnet.PreBottleneck():
            return block.downsample is not None
        case rdnet.DenseBlock():  # the output is concatenated, not added
            return False
    return all(getattr(block, name, True) not in (None, False) for name in SHORTCUTS)


def _place_names(block: nn.Module) -> list[str]:
    """Return the attributes of a block that are places.

    `drop_path` is a place even if it is None; if a numbered one is None, the block does not have that branch.
    """
    names = [name for name, _ in block.named_children() if NAME.fullmatch(name)]
    return ['drop_path', *names] if getattr(block, 'drop_path', block) is None else names


def linear_decay(count: int, last: float) -> list[float]:
    """Return the survival probabilities p_l = 1 - l / L * (1 - p_L), l = 1..L (Huang et al., section 3).

    Raises:
        ValueError: `last` is out of range.
    """
    if not 0 < last <= 1:
        raise ValueError(f'survival={last!r} must be above 0 and at most 1.')
    return [1 - index / count * (1 - last) for index in range(1, count + 1)]
