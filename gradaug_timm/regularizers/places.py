"""Where the residual branches of a network end, and how likely each survives."""
from timm.layers import DropPath
from torch import nn

NAMES = ('drop_path', 'drop_path1', 'drop_path2', 'drop_path3')
SHORTCUT_FLAGS = ('has_skip', 'use_shortcut')  # where one is false, a block of timm has the place but no addition


def residual_places(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The block and the attribute of every place before an addition where timm puts DropPath, or may; in order.

    Raises:
        ValueError: There is none, or one is taken by something else.
    """
    places = [(module, name) for module in model.modules() for name in NAMES if _has_place(module, name)]
    for block, name in places:
        if not isinstance(getattr(block, name), nn.Identity | DropPath | None):
            raise ValueError(f'{type(model).__name__} already has {type(getattr(block, name)).__name__} where its '
                             'residual branches end.')
    if not places:
        raise ValueError(f'{type(model).__name__} has no place for it: none of its modules has DropPath at the end of '
                         f'a residual branch ({", ".join(NAMES)}).')
    return places


def _has_place(module: nn.Module, name: str) -> bool:
    there = name in module._modules or (name in vars(module) and vars(module)[name] is None)
    return there and all(getattr(module, flag, True) for flag in SHORTCUT_FLAGS)


def linear_decay(count: int, last: float) -> list[float]:
    """Survival probabilities p_l = 1 - l / L * (1 - p_L), l = 1..L (Huang et al., section 3)."""
    return [1 - index / count * (1 - last) for index in range(1, count + 1)]
