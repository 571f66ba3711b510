"""From the dependencies of a network to its plan: what must be kept together, and what is interchangeable."""
import copy
import itertools
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import torch
from timm.layers import to_2tuple
from torch import nn

from .dependencies import dependencies
from .plan import FIXED, Group, Number, Plan, Side
from .probe import Key, Sized, Trace, trace
from .residual import BlockWatch
from .units import Units

COUNTED: dict[type[nn.Module], dict[str, str]] = {  # attributes that only tell how many channels there are
    nn.modules.conv._ConvNd: {'in_channels': 'in', 'out_channels': 'out'},
    nn.Linear: {'in_features': 'in', 'out_features': 'out'},
    nn.modules.batchnorm._NormBase: {'num_features': 'out'},
    nn.GroupNorm: {'num_channels': 'out'},
}


def plan_by_probing(model: nn.Module) -> Plan:
    """The plan of a network, found by running it once on constants.

    Args:
        model: A network of plain modules on the CPU, with positive parameters; it is left as it is.

    Raises:
        ValueError: It fails on a small image, or returns something else than tensors.
    """
    replica = copy.deepcopy(model).eval()
    shape = probe_shape(model)
    seen = Trace()
    watch = BlockWatch(replica, seen)
    trace(replica, seen, torch.rand(1, *shape) + 0.5)
    units = Units(seen.channels)
    for tie in seen.ties:
        units.tie(*tie)
    transposed = []
    for use in seen.uses:
        for found in dependencies(use.tensor, use.dim, seen.leaves):
            if found.is_transposed:
                transposed.append((found.key, use.key))
            else:
                units.tie(found.key, found.entries, use.key, found.users)
    labels = units.labels()
    fixed = np.union1d(_fixed_labels(units, labels, seen), _token_labels(units, labels, seen, transposed))
    groups, sides = _group(units, labels, fixed, seen)
    tensors: dict[str, list[Side | None]] = {
        name: [sides.get((name, dim)) for dim in range(tensor.dim())]
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    return Plan(
        groups,
        {name: tuple(dims) for name, dims in tensors.items() if any(side is not None for side in dims)},
        {**_counted(model, sides, seen), **_sized(seen, sides)},
        watch.blocks(),
    )


def probe_shape(model: nn.Module) -> tuple[int, int, int]:
    """Shape (C, H, W) of the smallest image of a few that the network takes, in which attention sees many tokens.

    Raises:
        ValueError: It takes none of them.
    """
    first = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    usual = (getattr(model, 'pretrained_cfg', None) or {}).get('input_size', (3, 224, 224))[-1]
    attends = any('num_heads' in vars(module) for module in model.modules())
    own = max(to_2tuple(getattr(getattr(model, 'patch_embed', None), 'img_size', None) or 0))
    sizes = [16, 32] if usual <= 32 else [own or (128 if attends else 64), 64, 96, 128, 192, 224, 256]
    reason = ''
    for channels, size in itertools.product(dict.fromkeys((first, 3)), [*sizes, usual]):
        try:
            with torch.no_grad():
                model(torch.zeros(1, channels, size, size, dtype=next(model.parameters()).dtype))
            return channels, size, size
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).split('\n')[0]
    raise ValueError(f'{type(model).__name__} can\'t run as sub-networks: it fails on an image of '
                     f'{(first, usual, usual)} ({reason}).')


def _fixed_labels(units: Units, labels: np.ndarray, seen: Trace) -> np.ndarray:
    """Labels of the units that every sub-network keeps: the logits', and those that no layer makes or none uses."""
    def of(keys: Iterable[Key]) -> np.ndarray:
        return np.unique(np.concatenate([labels[units.span[key]] for key in keys]))

    free = np.intersect1d(of(seen.made), of(seen.used))
    fixed = [np.setdiff1d(labels, free)]
    outputs = [leaf for leaf in seen.leaves if leaf.is_output]
    for x in seen.result:
        gradients = torch.autograd.grad(
            x, [leaf.tensor for leaf in outputs], torch.ones_like(x), retain_graph=True, allow_unused=True)
        for leaf, gradient in zip(outputs, gradients):
            dim, key = next(((dim, key) for dim, key in enumerate(leaf.keys) if key is not None), (0, None))
            if gradient is not None and key is not None:
                reached = np.flatnonzero(gradient.movedim(dim, 0).flatten(1).ne(0).any(1).numpy())
                fixed.append(labels[units.span[key]][reached])
    return np.unique(np.concatenate(fixed))


def _token_labels(units: Units, labels: np.ndarray, seen: Trace, transposed: list[tuple[Key, Key]]) -> np.ndarray:
    """Labels of the units of layers that mix tokens: where channels meet them on the other dimension."""
    if not transposed:
        return np.array([], dtype=np.int64)
    found = {seen.made[0]: False}  # by key whether it counts tokens
    members: dict[int, list[Key]] = defaultdict(list)
    for key in seen.channels:
        for label in np.unique(labels[units.span[key]]):
            members[int(label)].append(key)
    pending = [seen.made[0]]
    while pending:
        key = pending.pop()
        same = [other for label in np.unique(labels[units.span[key]]) for other in members[int(label)]]
        opposite = [b if a == key else a for a, b in transposed if key in (a, b)]
        for others, is_token in ((same, found[key]), (opposite, not found[key])):
            for other in others:
                if other not in found:
                    found[other] = is_token
                    pending.append(other)
    return np.unique(np.concatenate([labels[units.span[key]] for key, is_token in found.items() if is_token] or [[]]))


def _group(
        units: Units,
        labels: np.ndarray,
        fixed: np.ndarray,
        seen: Trace,
) -> tuple[tuple[Group, ...], dict[Key, Side]]:
    """Units with the same number of entries in the same dimensions are interchangeable: they form a group."""
    signature: dict[int, list[tuple[int, int]]] = defaultdict(list)
    size: dict[int, int] = {}
    consumed, made = set(seen.consumed), set(seen.made)
    for number, (key, span) in enumerate(units.span.items()):
        for label, entries in zip(*(array.tolist() for array in np.unique(labels[span], return_counts=True))):
            signature[label].append((number, entries))
            if key in consumed:
                size[label] = max(size.get(label, 1), entries)
    members: dict[tuple, list[int]] = defaultdict(list)
    for label in sorted(set(signature) - set(fixed.tolist())):
        members[tuple(signature[label])].append(label)
    group_of, rank_of = np.full(units.count, FIXED), np.zeros(units.count, dtype=np.int64)
    for number, group in enumerate(members.values()):
        group_of[group], rank_of[group] = number, np.arange(len(group))
    sides = {key: Side(group_of[labels[span]], rank_of[labels[span]]) for key, span in units.span.items()}
    groups = tuple(Group(len(group), size.get(group[0], 1)) for group in members.values())
    return groups, {key: side for key, side in sides.items() if side.groups}


def _counted(model: nn.Module, sides: dict[Key, Side], seen: Trace) -> dict[str, Number]:
    """What the attributes count that only tell the sizes of a layer."""
    found = {}
    for name, module in model.named_modules():
        for attribute, side in next((names for cls, names in COUNTED.items() if isinstance(module, cls)), {}).items():
            weight = f'{name}.weight' if module.weight is not None else f'{name}.running_mean'
            key = seen.inputs.get(weight) if side == 'in' else (weight, 0)
            if key in sides:
                found[f'{name}.{attribute}'] = sides[key]
    return found


def _sized(seen: Trace, sides: dict[Key, Side]) -> dict[str, Number]:
    """What the attributes count from which the model took lengths of tensors."""
    found: dict[str, dict[int | None, Side]] = defaultdict(dict)
    for sized in sorted(seen.sized, key=lambda sized: sized.number.ratio != 1):
        side = _side_of(sized, sides, seen)
        if side is not None and side.groups:
            origin = sized.number.origin
            found[f'{origin.module}.{origin.attribute}'].setdefault(origin.place, _scaled(side, sized.number.ratio))
    return {name: places[None] if None in places else tuple(places.get(place) for place in range(max(places) + 1))
            for name, places in found.items()}


def _scaled(side: Side, ratio: Fraction) -> Side:
    """A side of `ratio` times as many entries."""
    def scaled(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, ratio.numerator)[::ratio.denominator]

    return Side(scaled(side.group), scaled(side.rank))


def _side_of(sized: Sized, sides: dict[Key, Side], seen: Trace) -> Side | None:
    if sized.key is not None:
        side = sides.get(sized.key)
        return side and Side(side.group[::sized.step], side.rank[::sized.step])
    length = sized.tensor.shape[sized.dim]
    reached: list[set[tuple[int, int]]] = [set() for _ in range(length)]
    for found in dependencies(sized.tensor, sized.dim, seen.leaves):
        if found.key in sides:
            side = sides[found.key]
            for entry, user in zip(found.entries, found.users):
                reached[user].add((int(side.group[entry]), int(side.rank[entry])))
    if not all(reached) or all(units == reached[0] for units in reached):
        return None
    first = np.array([min(units) for units in reached])
    return Side(first[:, 0], first[:, 1])


def replica_of(model: nn.Module) -> nn.Module:
    """A copy on the CPU in float32 with random parameters and buffers, whatever the device of `model` (also meta).

    Random, since layers that start at zero would hide differences; vectors and buffers are positive, as for a
    BatchNorm's variance or a blur's filter.
    """
    memo = {id(tensor): _random_like(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    replica = copy.deepcopy(model, memo).requires_grad_(False)
    for module in replica.modules():  # what watches the network isn't to see the copy
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        if getattr(module, 'grad_checkpointing', False):
            module.grad_checkpointing = False
    _shrink_input(replica)
    return replica


def _shrink_input(replica: nn.Module) -> None:
    """Lets a network of a fixed input size take a small one, where timm can."""
    if hasattr(replica, 'set_input_size') and hasattr(replica, 'patch_embed'):
        patch = max(to_2tuple(replica.patch_embed.patch_size))
        replica.set_input_size(img_size=max(4 * patch, 64 // patch * patch))


def _random_like(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        new = tensor.clone() if tensor.device.type != 'meta' else torch.zeros(tensor.shape, dtype=tensor.dtype)
    elif tensor.dim() > 1 and isinstance(tensor, nn.Parameter):
        new = torch.randn(tensor.shape) * (2 / max(1, tensor[0].numel())) ** 0.5
    else:
        new = torch.rand(tensor.shape) + 0.5
    return nn.Parameter(new) if isinstance(tensor, nn.Parameter) else new
