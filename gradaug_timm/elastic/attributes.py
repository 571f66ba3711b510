"""Integers that only describe a module: corrected for a network that keeps a part of the channels.

A plan knows the integers from which a forward pass takes lengths. Others count channels too, such as the `in_chs` and
`groups` with which a block builds its folded convolution. They are recognised by name, and become what the layers
inside of the module count now. An integer that changes outputs was no such count, and stays.
"""
import re
from typing import Any, NamedTuple

import torch
from torch import nn

from .features import Features
from .planning.replica import probe_shape, random_copy

WORD = r'(?:ch|chs|chan|chans|channels?|dims?|features?|filters|planes)'
IN = re.compile(rf'(?:num_)?(?:in|input)_?{WORD}|inc|{WORD}_in')
OUT = re.compile(rf'(?:num_)?(?:out|output)_?{WORD}|outc|{WORD}_out')
ANY = re.compile(r'ed|dims?|embed_dims?|channels?|planes|num_channels|num_features|(?:mid|hidden|inner|expand|exp|attn'
                 rf'|stem|feature|head_hidden|pre_logits|mhca_out|mhsa_out|proj|init|base|pool)_{WORD}|(?:hidden|stem)_size')
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


def is_number(value: Any) -> bool:
    """Return whether a value is an integer, or a sequence of integers."""
    return type(value) is int or (type(value) in (tuple, list) and bool(value) and all(type(i) is int for i in value))


def numbers_of(network: nn.Module) -> Numbers:
    """Return the integers, and sequences of integers, among the attributes of a network's modules."""
    return {f'{name}.{key}': value for name, module in network.named_modules() for key, value in vars(module).items()
            if is_number(value)}


def tell_attributes(network: nn.Module, full: Numbers, features: Features | None) -> None:
    """Correct the integers that the modules of a network report, in place; outputs do not change.

    Args:
        network: A network that has lost channels.
        full: Result of `numbers_of` before.
        features: Result of `find_features` before; the integers that `tell_features` corrects are left out.
    """
    kept = numbers_of(network)
    of_features = features.corrected() if features is not None else set()
    new = {place: value for place, value in _new_numbers(network, full, dict(kept)).items()
           if _attribute(network, place) not in of_features}
    if new:
        _set(network, _without_effect(network, new, kept))


@torch.inference_mode(False)
@torch.no_grad()
def _without_effect(network: nn.Module, new: Numbers, kept: Numbers) -> Numbers:
    """Return those new integers with which a network computes what it does with those that it has.

    It is tried on a copy with random parameters and a random image: parameters that are zero, such as those of many
    residual branches before training, and images of one colour would hide what an integer changes.
    """
    with torch.device('cpu'), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        trial = random_copy(network)
        image = torch.randn(1, *probe_shape(trial))
        before = _outputs(trial, image)
        found: Numbers = {}
        for some in (new, *_by_attribute(network, new)):  # one after the other if all together change outputs
            _set(trial, some)
            if _same(trial, image, before):
                found.update(some)
                if some is new:
                    break
            else:
                _set(trial, {place: kept[place] for place in some})
    return found


def _by_attribute(network: nn.Module, numbers: Numbers) -> list[Numbers]:
    """Return the integers in groups: those of one attribute of all modules of a class."""
    groups: dict[tuple[type, str], Numbers] = {}
    for place, value in numbers.items():
        module, name = _attribute(network, place)
        groups.setdefault((type(module), name), {})[place] = value
    return list(groups.values())


def _new_numbers(network: nn.Module, full: Numbers, kept: Numbers) -> Numbers:
    """Return the integers that change; `kept` is updated, because modules are corrected before those around them."""
    new: Numbers = {}
    inside: dict[str, list[Count]] = {}
    for name, module in reversed(list(network.named_modules())):
        children = [f'{name}.{child}'.lstrip('.') for child, _ in module.named_children()]
        inside[name] = [count for child in children if child in inside for count in (
            *_own_counts(child, network.get_submodule(child), full, kept), *inside[child])]
        if type(module).__module__.startswith('torch.nn') and type(module) is not nn.Sequential:
            continue
        for key in vars(module):
            place = f'{name}.{key}'
            old = full.get(place)
            if old is None or kept.get(place) != old or not _counts(key):
                continue
            found = _counted(key, old, inside[name])
            if found != old:
                new[place] = kept[place] = found
    return new


def _own_counts(name: str, module: nn.Module, full: Numbers, kept: Numbers) -> list[Count]:
    places = ((key, f'{name}.{key}') for key in vars(module))
    return [Count(key, old, new) for key, place in places if place in full and place in kept
            for old, new in zip(_items(full[place]), _items(kept[place]))]


def _counts(key: str) -> bool:
    return key in SAME or any(pattern.fullmatch(key) for pattern in (IN, OUT, ANY))


def _counted(key: str, old: int | tuple, inside: list[Count]) -> int | tuple:
    """Return the new value of an attribute of a module; the old one if no layer inside tells another."""
    if not isinstance(old, int):
        return type(old)(_counted(key, item, inside) for item in old)
    if old < 2:
        return old
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


def _items(value: int | tuple) -> tuple:
    return (value,) if isinstance(value, int) else tuple(value)


def _set(network: nn.Module, numbers: Numbers) -> None:
    for place, value in numbers.items():
        module, name = _attribute(network, place)
        vars(module)[name] = value


def _attribute(network: nn.Module, place: str) -> tuple[nn.Module, str]:
    module, _, name = place.rpartition('.')
    return network.get_submodule(module), name


def _same(network: nn.Module, image: torch.Tensor, expected: list[torch.Tensor]) -> bool:
    try:
        return all(map(torch.equal, _outputs(network, image), expected))
    except Exception:  # the network's own code may raise anything if an integer does not fit
        return False


def _outputs(network: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    result = network(image)
    return [result] if isinstance(result, torch.Tensor) else list(result)
