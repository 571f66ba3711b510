"""Where the residual branches of a network end, and how likely each survives."""
import re

from timm.layers import DropPath
from timm.models import rdnet, regnet, xception_aligned
from torch import nn

NAME = re.compile(r'(\w+_)?drop_path\d?')
# Where one of these is false or None, most blocks of timm have the place but no addition.
SHORTCUTS = ('has_skip', 'use_shortcut', 'add_identity', 'residual', 'identity', 'shortcut')


def residual_places(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The block and the attribute of every place before an addition where timm puts DropPath, or may; in order.

    Raises:
        ValueError: There is none, or one is taken by something else.
    """
    places = [(module, name) for module in model.modules() if _adds(module) for name in _place_names(module)]
    for block, name in places:
        if not isinstance(getattr(block, name), nn.Identity | DropPath | None):
            raise ValueError(f'{type(model).__name__} already has {type(getattr(block, name)).__name__} where its '
                             'residual branches end.')
    if not places:
        raise ValueError(f'{type(model).__name__} has no place for it: none of its modules has DropPath at the end of '
                         'a residual branch.')
    return places


def _adds(block: nn.Module) -> bool:
    """Whether a block that may have places adds their branches to something."""
    match block:
        case xception_aligned.XceptionModule() | xception_aligned.PreXceptionModule():
            return not block.no_skip
        case regnet.Bottleneck() | regnet.PreBottleneck():
            return block.downsample is not None
        case rdnet.DenseBlock():  # its output is concatenated
            return False
    return all(getattr(block, name, True) not in (None, False) for name in SHORTCUTS)


def _place_names(block: nn.Module) -> list[str]:
    """Only `drop_path` is a place also where it is None; a numbered one that is None lacks the branch itself."""
    names = [name for name, _ in block.named_children() if NAME.fullmatch(name)]
    return ['drop_path', *names] if getattr(block, 'drop_path', block) is None else names


def linear_decay(count: int, last: float) -> list[float]:
    """Survival probabilities p_l = 1 - l / L * (1 - p_L), l = 1..L (Huang et al., section 3).

    Raises:
        ValueError: `last` is no such probability.
    """
    if not 0 < last <= 1:
        raise ValueError(f'survival={last!r} must be above 0 and at most 1.')
    return [1 - index / count * (1 - last) for index in range(1, count + 1)]
