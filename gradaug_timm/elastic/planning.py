"""From the dependencies of a network to its plan: what must be kept together, and what is interchangeable."""
import copy
from collections import defaultdict

import numpy as np
import torch
from torch import nn

from .blocks import BLOCKS
from .layers import LAYERS
from .plan import FIXED, Group, Plan, Side
from .probe import LEAVES, Trace, trace

Key = tuple[str, str]  # layer name, 'in' or 'out'; channelwise layers have an 'out' alone


def plan_by_probing(model: nn.Module) -> Plan:
    """The plan of a network, found by running it once on constants.

    Args:
        model: A network of plain layers on the CPU, in float32; it is left as it is.

    Raises:
        ValueError: It holds parameters in layers that can't be sliced, or runs a layer twice.
    """
    _refuse_unknown_layers(model)
    replica = copy.deepcopy(model).eval()
    channelwise = tuple(plain for plain in LAYERS if not issubclass(plain, LEAVES))
    shape = probe_shape(model)
    try:
        seen = trace(replica, channelwise, torch.rand(1, *shape) + 0.5)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).split('\n')[0]
        name = type(model).__name__
        raise ValueError(f'{name} can\'t run as sub-networks: it fails on an image of {shape} ({reason}).') from error
    units = _Units({key: channels for name in seen.inputs for key, channels in _sides(model.get_submodule(name), name)})
    for name in seen.inputs:
        module = model.get_submodule(name)
        _tie_inside(units, name, module)
        consumer = (name, 'in' if isinstance(module, LEAVES) else 'out')
        for producer, used, users in seen.dependencies(name):
            units.tie((producer, 'out'), used, consumer, users)
    fixed = _fixed_units(units, seen, model)
    groups, sides = _group(units, fixed, producers=[(name, 'out') for name in seen.outputs])
    layers = {name: (sides.get((name, 'in')), sides.get((name, 'out'))) for name in seen.inputs}
    return Plan(groups, {name: pair for name, pair in layers.items() if pair != (None, None)}, block_names(model))


def block_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the residual blocks that random depth may skip, in order."""
    return tuple(name for name, module in model.named_modules() if type(module) in BLOCKS)


def _refuse_unknown_layers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        owns = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if owns and type(module) not in LAYERS and not _is_reduction(module):
            culprit = f'layer {name!r} of class {type(module).__name__}' if name else 'the network itself'
            raise ValueError(
                f'{type(model).__name__} can\'t run as sub-networks: {culprit} holds parameters or buffers; supported '
                f'are {", ".join(sorted({plain.__name__ for plain in LAYERS}))}, of torch and timm.')


def _is_reduction(module: nn.Module) -> bool:
    """Whether a layer treats all channels alike, as the convolution over channels of efficient channel attention."""
    return isinstance(module, nn.Conv1d) and module.in_channels == module.out_channels == 1


def probe_shape(model: nn.Module) -> tuple[int, int, int]:
    """Shape (C, H, W) of a small image that the network takes."""
    channels = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    usual = (getattr(model, 'pretrained_cfg', None) or {}).get('input_size', (3, 224, 224))[-1]
    size = 16 if usual <= 32 else 64
    return channels, size, size


def _sides(module: nn.Module, name: str) -> list[tuple[Key, int]]:
    if type(module) not in LAYERS:
        return []
    inp, out = LAYERS[type(module)].sides(module)
    return [((name, 'out'), out)] if inp is None else [((name, 'in'), inp), ((name, 'out'), out)]


def _tie_inside(units: '_Units', name: str, module: nn.Module) -> None:
    """Channels that a layer itself ties: those of each group of a grouped convolution or GroupNorm."""
    if isinstance(module, nn.GroupNorm):
        units.tie_blocks((name, 'out'), module.num_groups)
    elif isinstance(module, nn.Conv2d) and module.groups > 1:
        units.tie_blocks((name, 'in'), module.groups)
        units.tie_blocks((name, 'out'), module.groups)
        starts = np.arange(module.groups)
        units.tie((name, 'in'), starts * (module.in_channels // module.groups),
                  (name, 'out'), starts * (module.out_channels // module.groups))


class _Units:
    """Channels by the unit that they belong to: a union-find over all sides of all layers, in arrays."""

    def __init__(self, channels: dict[Key, int]):
        starts = np.cumsum([0, *channels.values()])
        self.span = {key: slice(start, stop) for key, start, stop in zip(channels, starts, starts[1:])}
        self.count = int(starts[-1])
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def tie(self, a: Key, a_channels: np.ndarray, b: Key, b_channels: np.ndarray) -> None:
        if a in self.span and b in self.span:
            self._pairs.append((self.span[a].start + a_channels, self.span[b].start + b_channels))

    def tie_blocks(self, key: Key, blocks: int) -> None:
        channels = np.arange(self.span[key].stop - self.span[key].start)
        first = channels // (len(channels) // blocks) * (len(channels) // blocks)
        self.tie(key, channels, key, first)

    def labels(self) -> np.ndarray:
        """For each channel of each side the smallest number among the channels of its unit, int [count]."""
        labels = np.arange(self.count)
        a, b = (np.concatenate([pair[i] for pair in self._pairs]) for i in (0, 1)) if self._pairs else ([], [])
        while True:
            before = labels.copy()
            smallest = np.minimum(labels[a], labels[b])
            np.minimum.at(labels, a, smallest)
            np.minimum.at(labels, b, smallest)
            labels = labels[labels]
            if (labels == before).all():
                return labels


def _fixed_units(units: _Units, seen: Trace, model: nn.Module) -> np.ndarray:
    """Labels of the units that every sub-network keeps: the image's, the logits', and those that no layer makes."""
    labels = units.labels()
    fixed = [labels[units.span[name, 'out']][channels]
             for name, channels in seen.reaching_the_result().items() if (name, 'out') in units.span]
    made = np.concatenate([labels[units.span[name, 'out']] for name in seen.outputs if (name, 'out') in units.span])
    fixed.append(np.setdiff1d(labels, made))
    return np.unique(np.concatenate(fixed))


def _group(units: _Units, fixed: np.ndarray, producers: list[Key]) -> tuple[tuple[Group, ...], dict[Key, Side]]:
    """Units with the same number of channels on the same sides are interchangeable: they form a group."""
    labels = units.labels()
    signature: dict[int, list] = defaultdict(list)
    producers = set(producers)
    for number, (key, span) in enumerate(units.span.items()):
        for label, channels in zip(*(array.tolist() for array in np.unique(labels[span], return_counts=True))):
            signature[label].append((number, channels, key in producers))
    members: dict[tuple, list[int]] = defaultdict(list)
    for label in sorted(set(signature) - set(fixed.tolist())):
        members[tuple(signature[label])].append(label)
    group_of, rank_of = np.full(units.count, FIXED), np.zeros(units.count, dtype=np.int64)
    groups = []
    for number, (sides, labels_) in enumerate(members.items()):
        groups.append(Group(len(labels_), min(channels for _, channels, produced in sides if produced)))
        group_of[labels_], rank_of[labels_] = number, np.arange(len(labels_))
    sides = {key: Side(group_of[labels[span]], rank_of[labels[span]]) for key, span in units.span.items()}
    return tuple(groups), {key: side for key, side in sides.items() if (side.group != FIXED).any()}


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
    return replica


def _random_like(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        new = torch.zeros(tensor.shape, dtype=tensor.dtype)
    elif tensor.dim() > 1 and isinstance(tensor, nn.Parameter):
        new = torch.randn(tensor.shape) * (2 / max(1, tensor[0].numel())) ** 0.5
    else:
        new = torch.rand(tensor.shape) + 0.5
    return nn.Parameter(new) if isinstance(tensor, nn.Parameter) else new
