"""Integers that only describe a module: corrected for a network that keeps a part of the channels.

A plan knows the integers from which a forward pass takes lengths. Others count channels too, such as the `in_chs` and
`groups` with which a block builds its folded convolution. They are recognised by name, and become what the layers
inside of the module count now.
"""
import re
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from .modes import evaluation
from .planning.replica import probe_shape

WORD = r'(?:ch|chs|chan|chans|channels?|dims?|features?|filters|planes)'
IN = re.compile(rf'(?:num_)?(?:in|input)_?{WORD}|inc|{WORD}_in')
OUT = re.compile(rf'(?:num_)?(?:out|output)_?{WORD}|outc|{WORD}_out')
ANY = re.compile(r'ed|dims?|embed_dims?|channels?|planes|num_channels|num_features|(?:mid|hidden|inner|expand|exp|attn'
                 rf'|stem|head_hidden|pre_logits|mhca_out|mhsa_out|proj|init|base|pool)_{WORD}|(?:hidden|stem)_size')
SAME = frozenset({'groups', 'cardinality', 'num_heads', 'heads', 'num_kv_heads', 'num_groups'})  # only of the same name
# What layers count, and which way.
LAYERS = {'in_channels': IN, 'in_features': IN, 'num_features': IN, 'num_channels': IN, 'normalized_shape': IN,
          'out_channels': OUT, 'out_features': OUT}

Numbers = dict[str, int | tuple]  # 'module.attribute' -> value


class Count(NamedTuple):
    """An integer of a layer, before and after the network has lost channels."""
    attribute: str
    old: int
    new: int


def numbers_of(network: nn.Module) -> Numbers:
    """Return the integers, and sequences of integers, among the attributes of a network's modules."""
    return {f'{name}.{key}': value for name, module in network.named_modules() for key, value in vars(module).items()
            if type(value) is int or (type(value) in (tuple, list) and value and all(type(i) is int for i in value))}


def tell_attributes(network: nn.Module, full: Numbers) -> None:
    """Correct the integers that the modules of a network report, in place; outputs do not change.

    Args:
        network: A network that has lost channels.
        full: Result of `numbers_of` before.
    """
    kept = numbers_of(network)
    new = _new_numbers(network, full, dict(kept))
    if not new:
        return
    image = torch.ones(1, *probe_shape(network))
    before = _outputs(network, image)
    for some in (new, *({name: value} for name, value in new.items())):  # one by one if all together change outputs
        _set(network, some)
        if _same(network, image, before):
            if some is new:
                return
        else:
            _set(network, {name: kept[name] for name in some})


def _new_numbers(network: nn.Module, full: Numbers, kept: Numbers) -> Numbers:
    """Return the integers that change; `kept` is updated, because modules are corrected before those around them."""
    new = {}
    for name, module in reversed(list(network.named_modules())):
        if type(module).__module__.startswith('torch.nn') and type(module) is not nn.Sequential:
            continue
        for key in vars(module):
            place = f'{name}.{key}'
            old = full.get(place)
            if old is None or kept.get(place) != old or not _counts(key):
                continue
            found = _counted(key, old, name, full, kept)
            if found != old:
                new[place] = kept[place] = found
    return new


def _counts(key: str) -> bool:
    return key in SAME or any(pattern.fullmatch(key) for pattern in (IN, OUT, ANY))


def _counted(key: str, old: int | tuple, module: str, full: Numbers, kept: Numbers) -> int | tuple:
    """Return the new value of an attribute of a module; the old one if no layer inside tells another."""
    if not isinstance(old, int):
        return type(old)(_counted(key, item, module, full, kept) for item in old)
    if old < 2:
        return old
    inside = list(_inside(module, full, kept))
    layers = [count for count in inside if count.old == old]
    if not layers and (key == 'dim' or IN.fullmatch(key)):  # what goes in may be folded, such as four pixels into one
        layers = [Count(count.attribute, old, old * count.new // count.old) for count in inside
                  if LAYERS.get(count.attribute) is IN and count.old % old == 0 and old * count.new % count.old == 0]
    same = [count.new for count in layers if count.attribute == key]
    inputs = [count.new for count in layers if LAYERS.get(count.attribute) is IN]
    outputs = [count.new for count in layers if LAYERS.get(count.attribute) is OUT]
    if key in SAME:
        alone = key == 'groups' and not any(count.attribute == key for count in inside)  # of a norm that folds into one
        return (same or (inputs if alone else []) or [old])[0]
    if OUT.fullmatch(key):
        return (same[-1:] or outputs[-1:] or inputs[-1:] or [old])[0]
    return (same[:1] or inputs[:1] or outputs[:1] or [old])[0]


def _inside(module: str, full: Numbers, kept: Numbers) -> Iterator[Count]:
    """Yield the integers of the modules inside of a module, in order."""
    start = f'{module}.' if module else ''
    for place, value in full.items():
        owner, _, attribute = place.rpartition('.')
        if owner != module and owner.startswith(start) and place in kept:
            for old, new in zip(_items(value), _items(kept[place])):
                yield Count(attribute, old, new)


def _items(value: int | tuple) -> tuple:
    return (value,) if isinstance(value, int) else tuple(value)


def _set(network: nn.Module, numbers: Numbers) -> None:
    for place, value in numbers.items():
        module, _, attribute = place.rpartition('.')
        vars(network.get_submodule(module))[attribute] = value


def _same(network: nn.Module, image: torch.Tensor, expected: list[torch.Tensor]) -> bool:
    try:
        return all(map(torch.equal, _outputs(network, image), expected))
    except Exception:  # the network's own code may raise anything if an integer does not fit
        return False


@torch.no_grad()
def _outputs(network: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    weight = next(network.parameters())
    with evaluation(network), weight.device:
        result = network(image.to(weight))
    return [result] if isinstance(result, torch.Tensor) else list(result)
