"""How networks are planned that hold modules of certain classes, where probing alone isn't all that it takes."""
from collections.abc import Callable, Iterable

from torch import nn

from ...registry import Registry
from ..plan import Plan
from .probed import plans_by_probing

Planner = Callable[[nn.Module], Iterable[Plan]]

PLANNERS: Registry[type[nn.Module], Planner] = Registry('planner of')


def register_planner(*classes: type[nn.Module]) -> Callable[[Planner], Planner]:
    """Return a decorator that registers the planner of networks which are, or hold, a module of these classes.

    A planner takes a network of plain modules and gives the plans that it may have, the one to be tried first before
    the others. Plans are checked against the masked full-size network; the last one's groups are frozen where none
    agrees. `gradaug_timm.elastic` has what planners are made of: `plans_by_probing`, `prefix_plan`, `Plan`.

    Args:
        *classes: Classes of blocks or of whole networks; subclasses are planned likewise.

    Raises:
        ValueError: One of the classes has a planner already.

    Example:
        >>> from torch import nn
        >>> from gradaug_timm import register_planner
        >>> from gradaug_timm.elastic import plans_by_probing
        >>> from gradaug_timm.elastic.planning.registry import PLANNERS
        >>> class Block(nn.Sequential):
        ...     pass
        >>> @register_planner(Block)
        ... def plan_block(network):
        ...     return plans_by_probing(network)
        >>> PLANNERS.remove(Block)
    """
    def register(planner: Planner) -> Planner:
        for cls in classes:
            PLANNERS.add(cls, planner)
        return planner
    return register


def planner_of(network: nn.Module) -> Planner:
    """Return the planner of the first module that has one, in the network's order; else that by probing."""
    classes = (cls for module in network.modules() for cls in type(module).__mro__)
    return next((PLANNERS[cls] for cls in classes if cls in PLANNERS), plans_by_probing)
