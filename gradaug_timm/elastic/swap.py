"""Functions that give the modules of a network elastic classes and set what these modules keep."""
import itertools

from torch import Tensor, nn

from ..upstream import BUFFERS, PARAMETER_CACHES, PARAMETERS, AnyBatchNorm, own_buffers, own_parameters
from .blocks import BLOCKS, SKIP, Skippable, SkippableResidual
from .plan import Plan
from .slicing import WHOLE, Attribute, Cut, Elastic, elastic_class
from .subnet import Subnet

View = list[tuple[nn.Module, dict[str, object]]]

STATISTICS = ('running_mean', 'running_var')
TRACKING = 'track_running_stats'


def swap_classes(network: nn.Module, plan: Plan) -> None:
    """Give an elastic class to every module that a sub-network changes or may skip, in place."""
    blocks = set(plan.blocks)
    counts = _by_module(plan.numbers)
    for name, module in network.named_modules():
        attributes: list[Attribute] = [
            (key, PARAMETERS) for key in own_parameters(module) if f'{name}.{key}'.lstrip('.') in plan.tensors]
        attributes += [(key, BUFFERS) for key in own_buffers(module)]
        attributes += [(key, '') for key in counts.get(name, ())]
        if is_batch_norm(module):
            attributes.append((TRACKING, ''))
        attributes += [(key, '') for key in _caches(module)]
        is_block = name in blocks or isinstance(module, Skippable)
        if attributes or is_block:
            plain = module.plain if isinstance(module, Elastic) else type(module)
            mixin = BLOCKS.get(plain, SkippableResidual) if is_block else Elastic
            module.__class__ = elastic_class(plain, tuple(attributes), mixin)
            vars(module).update(kept=WHOLE, full_values={
                key: vars(module)[key] for key, holder in attributes if not holder})


def restore_classes(network: nn.Module) -> None:
    """Undo `swap_classes`."""
    for module in network.modules():
        if isinstance(module, Elastic):
            module.__class__ = module.plain
            vars(module).pop('kept', None)
            vars(module).pop('full_values', None)


def _caches(module: nn.Module) -> frozenset[str]:
    """Return the names of the attributes in which a module caches values computed from parameters."""
    return PARAMETER_CACHES & vars(module).keys()


def without_caches(network: nn.Module) -> dict[int, object]:
    """Return a memo for `copy.deepcopy` that leaves out caches: tensors computed from parameters cannot be copied."""
    return {id(vars(module)[key]): {} for module in network.modules() for key in _caches(module)}


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether a module is a BatchNorm with running statistics."""
    return isinstance(module, AnyBatchNorm) and module.running_mean is not None


def make_view(
        network: nn.Module,
        plan: Plan,
        subnet: Subnet,
        statistics: dict[str, tuple[Tensor, Tensor]] | None = None,
) -> View:
    """Return the modules of an elastic network that change in `subnet`, each with its `kept` values.

    Args:
        network: The network, with elastic classes.
        plan: The plan of the network.
        subnet: The sub-network.
        statistics: Statistics recalibrated for `subnet`: name of a BatchNorm -> mean and variance [kept channels].

    Raises:
        ValueError: `subnet.skipped` names a block that does not exist.
    """
    blocks = len(plan.blocks)
    if any(index >= blocks for index in subnet.skipped):
        raise ValueError(f'Subnet skipped={subnet.skipped} must hold block indexes below {blocks}: '
                         f'{type(network).__name__} has {blocks} blocks that can be skipped.')
    skipped = {plan.blocks[index] for index in subnet.skipped}
    cuts, counts = _by_module(plan.ranges(subnet)), _by_module(plan.counts(subnet))
    view: View = []
    for name, module in network.named_modules():
        if not isinstance(module, Elastic):
            continue
        kept = {key: Cut(tuple((dim, runs) for dim, runs in enumerate(dims) if runs is not None))
                for key, dims in cuts.get(name, {}).items()}
        kept.update((key, _filled(vars(module)[key], count)) for key, count in counts.get(name, {}).items())
        if name in skipped:
            kept[SKIP] = True
        if not subnet.updates_statistics:
            kept.update(_own_buffers(module, kept, (statistics or {}).get(name, ())))
        kept.update((key, {}) for key in _caches(module))
        if kept:
            view.append((module, kept))
    return view


def _own_buffers(module: nn.Module, kept: dict[str, object], statistics: tuple[Tensor, ...]) -> dict[str, object]:
    """Return the `kept` values that make training as a sub-network leave the module's buffers unchanged."""
    if is_batch_norm(module):
        return {TRACKING: False, **dict(zip(STATISTICS, statistics))}
    return {key: kept.get(key, Cut(())) for key, buffer in own_buffers(module).items() if buffer is not None}


def apply_view(modules: list[nn.Module], view: View) -> None:
    """Make a network run as the sub-network of `view`, or as the full network if `view` is empty.

    Args:
        modules: All modules of the network with elastic classes.
        view: Result of `make_view`.
    """
    for module in modules:
        vars(module)['kept'] = WHOLE
    for module, kept in view:
        vars(module)['kept'] = kept
        for key in kept.keys() & PARAMETER_CACHES:
            kept[key] = {}


def _filled(value: int | tuple | list, count: int | tuple[int | None, ...]):
    if not isinstance(count, tuple):
        return count
    return type(value)(old if new is None else new for old, new in itertools.zip_longest(value, count))


def _by_module(values: dict[str, object]) -> dict[str, dict[str, object]]:
    """Return values by 'module.attribute' as a dictionary of values by attribute for each module."""
    found: dict[str, dict[str, object]] = {}
    for name, value in values.items():
        module, _, attribute = name.rpartition('.')
        found.setdefault(module, {})[attribute] = value
    return found
