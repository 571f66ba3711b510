"""Elastic classes: modules return slices of their tensors while a sub-network is active.

Each module of the network gets a subclass of its own class (`module.__class__ = ...`). In the subclass, the tensors
that a sub-network slices and the integers that count channels are properties. So parameters, buffers and state-dict
keys do not change, the module's own code runs on the slices, and slicing happens inside `forward`, where torch.compile
traces it.
"""
from functools import cache
from typing import NamedTuple

import torch
from timm.layers import is_notrace_module, register_notrace_module
from torch import nn

from ..upstream import BUFFERS, PARAMETERS, own_buffers

Ranges = tuple[tuple[int, int], ...]  # (start, length) of each run of kept channels
Attribute = tuple[str, str]  # name, and where the module holds it: PARAMETERS, BUFFERS or '' (itself)
GETATTR = nn.Module.__getattr__
WHOLE: dict[str, object] = {}  # `kept` of every module in the full network


class Cut(NamedTuple):
    """Slices of a tensor that are kept: the runs of some dimensions."""
    dims: tuple[tuple[int, Ranges], ...]

    @property
    def is_view(self) -> bool:
        """Return whether each dimension keeps a single run, so that the kept part is a view of the tensor."""
        return all(len(ranges) == 1 for _, ranges in self.dims)

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the kept part of `tensor`; a copy unless `is_view`."""
        for dim, ranges in self.dims:
            runs = [tensor.narrow(dim, start, length) for start, length in ranges]
            tensor = runs[0] if len(runs) == 1 else torch.cat(runs, dim)
        return tensor


class Elastic:
    """Base of all elastic classes.

    `plain` is the class that the module had before, `attributes` are the names that become properties, and `mixin` is
    the base that makes the class elastic. While a sub-network is active, `kept` maps the name of an attribute to a Cut
    or to another value that replaces the attribute. `full_values` holds attributes of the full network that are not
    tensors; a property that reads its own name in `__dict__` sends torch.compile into a recursion before torch 2.14.
    """
    plain: type[nn.Module]
    attributes: tuple[Attribute, ...] = ()
    mixin: type['Elastic']
    kept: dict[str, object] = WHOLE
    full_values: dict[str, object]

    def __setattr__(self, name, value):
        if name in self.kept and name in own_buffers(self):  # a buffer that a sub-network writes is dropped after it
            vars(self)['kept'] = {**self.kept, name: value}
        else:
            super().__setattr__(name, value)

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != 'kept'}  # copies are the full network

    def __reduce_ex__(self, protocol):
        cls = type(self)
        return _rebuild, (cls.plain, cls.attributes, cls.mixin), self.__getstate__()


@cache
def elastic_class(plain: type[nn.Module], attributes: tuple[Attribute, ...], mixin: type[Elastic]) -> type[Elastic]:
    """Return the elastic class of a class of modules; the same class for the same arguments.

    Args:
        plain: The class.
        attributes: Attributes of the modules that change while a sub-network is active.
        mixin: Elastic, or a subclass with more behaviour.
    """
    properties = {name: _property(name, holder) for name, holder in attributes}
    cls = type(f'Elastic{plain.__name__}', (mixin, plain), {
        **properties, 'plain': plain, 'attributes': attributes, 'mixin': mixin, '__module__': plain.__module__,
    })
    is_layer = plain.__module__.startswith('torch.nn') or is_notrace_module(plain)
    return register_notrace_module(cls) if is_layer else cls


def _rebuild(plain: type[nn.Module], attributes: tuple[Attribute, ...], mixin: type[Elastic]) -> Elastic:
    cls = elastic_class(plain, attributes, mixin)
    return cls.__new__(cls)


def _property(name: str, holder: str) -> property:
    """Return a property for an attribute of a module; pruning and DataParallel may hold the tensor elsewhere."""
    def set_value(self, value):
        self.__dict__[name] = value
        if not holder:
            self.full_values[name] = value

    def delete_value(self):
        del self.__dict__[name]
        if not holder:
            del self.full_values[name]

    def get_tensor(self):
        kept = self.kept
        if holder == PARAMETERS and name in kept and not isinstance(kept[name], Cut):
            return kept[name]  # a part that is shown
        held = getattr(self, holder)
        if name not in held and name not in self.__dict__:
            raise AttributeError(f'{type(self).__name__} has no {name}')
        tensor = held[name] if name in held else self.__dict__[name]
        if holder == PARAMETERS and not torch.compiler.is_compiling() and nn.Module.__getattr__ is not GETATTR:
            tensor = nn.Module.__getattr__(self, name)  # while torch.fx traces, this returns proxies
        if name not in kept or tensor is None:
            return tensor
        cut = kept[name]
        if not isinstance(cut, Cut):
            return cut.to(tensor)
        part = cut.of(tensor)
        return part.clone() if holder == BUFFERS and self.training else part  # a layer may update it in place

    if holder:
        return property(get_tensor, set_value, delete_value)
    return property(
        lambda self: self.kept[name] if name in self.kept else self.full_values[name], set_value, delete_value)
