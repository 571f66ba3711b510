"""Giving the modules of a network elastic classes, and telling them what to keep."""
from torch import Tensor, nn

from .blocks import BLOCKS
from .layers import LAYERS, Elastic, ElasticNorm, Kept
from .plan import Plan
from .subnet import Subnet

View = list[tuple[nn.Module, Kept]]


def swap_classes(network: nn.Module) -> None:
    """Gives every layer and block that has an elastic class that class, in place."""
    for module in network.modules():
        elastic = LAYERS.get(type(module)) or BLOCKS.get(type(module))
        if elastic is not None:
            module.__class__ = elastic
            vars(module)['kept'] = None


def restore_classes(network: nn.Module) -> None:
    """Undoes `swap_classes`."""
    for module in network.modules():
        if isinstance(module, Elastic):
            module.__class__ = module.plain
            vars(module).pop('kept', None)


def make_view(
        network: nn.Module,
        plan: Plan,
        subnet: Subnet,
        statistics: dict[str, tuple[Tensor, Tensor]] | None = None,
) -> View:
    """The modules of an elastic network that behave otherwise in `subnet`, with what they keep.

    Args:
        network: The network, of elastic classes.
        plan: Its plan.
        subnet: The sub-network.
        statistics: By BatchNorm's name the mean and variance [kept channels] that were recalibrated for `subnet`.

    Raises:
        ValueError: `subnet.skipped` names a block that isn't there.
    """
    blocks = len(plan.blocks)
    if any(index >= blocks for index in subnet.skipped):
        raise ValueError(f'Subnet skipped={subnet.skipped} must hold block indexes below {blocks}: '
                         f'{type(network).__name__} has {blocks} blocks that can be skipped.')
    skipped = {plan.blocks[index] for index in subnet.skipped}
    ranges = plan.ranges(subnet)
    view = []
    for name, module in network.named_modules():
        if name in plan.blocks:
            kept = Kept() if name in skipped else None
        elif subnet.updates_statistics and isinstance(module, ElasticNorm):
            kept = None
        else:
            kept = module.keep(*ranges.get(name, (None, None))) if isinstance(module, Elastic) else None
        if kept is not None:
            view.append((module, kept._replace(statistics=(statistics or {}).get(name))))
    return view


def apply_view(modules: list[nn.Module], view: View) -> None:
    """Makes the network run as the sub-network of `view`; as itself if that is empty.

    Args:
        modules: Its modules of elastic classes.
        view: What `make_view` gave.
    """
    for module in modules:
        vars(module)['kept'] = None
    for module, kept in view:
        vars(module)['kept'] = kept
