"""Weights that do not fit a network: how they are noticed, and why, in one line."""
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

SHAPES = re.compile(
    r'size mismatch for (\S+): .*?shape torch\.Size\(\[([\d, ]*)\]\).*?torch\.Size\(\[([\d, ]*)\]\)', re.DOTALL)
HEADS = 4  # a classifier has a weight and a bias; a distilled network has two
TOO_MANY = 0.25  # share of a network's parameters that weights lack, or have besides, from which they are of another


def describe_mismatch(error: BaseException) -> str:
    """Return why torch did not load a state dict.

    Args:
        error: What `load_state_dict` raised; other errors are described by their own text.
    """
    text = str(error)
    missing, others = _names(text, 'Missing'), _names(text, 'Unexpected')
    if missing or others:
        parts = [f'it lacks {_some(missing)}'] * bool(missing) + [f'it has {_some(others)} besides'] * bool(others)
        return f'it is of another model: {" and ".join(parts)}'
    shapes = [(name, _size(saved), _size(wanted)) for name, saved, wanted in SHAPES.findall(text)]
    if not shapes:
        return ' '.join(text.split())[:200] or type(error).__name__
    classes = {(saved[0], wanted[0]) for _, saved, wanted in shapes if saved and wanted and saved[1:] == wanted[1:]}
    if len(classes) == 1 and len(shapes) <= HEADS and all(saved[1:] == wanted[1:] for _, saved, wanted in shapes):
        saved, wanted = classes.pop()
        return f'it has {saved} classes, the model {wanted}'
    stems = [(saved, wanted) for _, saved, wanted in shapes
             if len(saved) == len(wanted) == 4 and saved[:1] + saved[2:] == wanted[:1] + wanted[2:]]
    if len(stems) == len(shapes) == 1:
        return f'it has {stems[0][0][1]} input channels, the model {stems[0][1][1]}'
    if stems and len(shapes) <= HEADS + 1:
        rest = [(saved, wanted) for _, saved, wanted in shapes if (saved, wanted) not in stems]
        if all(saved[1:] == wanted[1:] for saved, wanted in rest):
            return (f'it has {stems[0][0][1]} input channels and {rest[0][0][0]} classes, the model '
                    f'{stems[0][1][1]} and {rest[0][1][0]}')
    name, had, wants = shapes[0]
    more = f', and {len(shapes) - 1} more differ' if len(shapes) > 1 else ''
    return f'{name} has the shape {_shape(had)} in it, and {_shape(wants)} in the model{more}'


@contextmanager
def rejecting_other_models() -> Iterator[None]:
    """Raise torch's error where weights of another model would be loaded in part, with `strict=False`.

    timm does so with a file of pretrained weights, whose classifier it replaces.
    """
    load = nn.Module.load_state_dict

    def checked(self: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False):
        result = load(self, state_dict, strict=strict, assign=assign)
        if not strict and _of_another_model(self, state_dict, *result):
            load(self, state_dict, strict=True, assign=assign)
        return result

    with patch.object(nn.Module, 'load_state_dict', checked):
        yield


def _of_another_model(
        network: nn.Module, state: Mapping[str, Any], missing: Iterable[str], unexpected: Iterable[str]) -> bool:
    """Return whether weights lack much of a network, or have much more than it has within its own parts.

    Classifiers do not count, and neither do parts that a network does not have, such as the decoder of a MAE.
    """
    heads = (getattr(network, 'pretrained_cfg', None) or {}).get('classifier') or ()
    heads = (heads,) if isinstance(heads, str) else heads
    sizes = {name: each.numel() for name, each in network.named_parameters() if not name.startswith(tuple(heads))}
    parts = {name for name, _ in network.named_children()} - set(heads)
    lacking = sum(sizes.get(name, 0) for name in missing)
    besides = sum(state[name].numel() for name in unexpected
                  if name.split('.')[0] in parts and isinstance(state[name], torch.Tensor))
    return max(lacking, besides) > TOO_MANY * sum(sizes.values())


def does_not_fit(error: BaseException) -> bool:
    """Return whether an error is torch's about a state dict that does not fit."""
    return isinstance(error, RuntimeError) and ('loading state_dict' in str(error) or 'size mismatch' in str(error))


def _names(text: str, kind: str) -> list[str]:
    found = re.search(rf'{kind} key\(s\) in state_dict: ((?:"[^"]*"(?:, )?)+)', text)
    return re.findall(r'"([^"]*)"', found[1]) if found else []


def _some(names: list[str]) -> str:
    return f'{", ".join(names[:2])}{f" and {len(names) - 2} more" if len(names) > 2 else ""}'


def _size(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(',') if each.strip())


def _shape(size: tuple[int, ...]) -> str:
    return 'x'.join(map(str, size)) or 'scalar'
