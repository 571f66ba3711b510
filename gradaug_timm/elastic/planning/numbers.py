"""Integers that remember the attribute of a module from which they were computed."""
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import nn


class Origin(NamedTuple):
    """Origin of a number: the name of a module, an attribute, and the place if this is a tuple or list."""
    module: str
    attribute: str
    place: int | None = None


class TrackedInt(int):
    """Integer that is the value of an attribute, or a multiple or part of the value.

    Args:
        value: The integer.
        origin: The attribute.
        ratio: The attribute's value divided by this value.
    """

    def __new__(cls, value: int, origin: Origin, ratio: Fraction = Fraction(1)):
        self = super().__new__(cls, value)
        self.origin = origin
        self.ratio = ratio
        return self

    def __mul__(self, other):
        product = super().__mul__(other)
        exact = isinstance(other, int) and other
        return TrackedInt(product, self.origin, self.ratio / int(other)) if exact else product

    __rmul__ = __mul__

    def __floordiv__(self, other):
        quotient = super().__floordiv__(other)
        exact = isinstance(other, int) and other and self % other == 0
        return TrackedInt(quotient, self.origin, self.ratio * int(other)) if exact else quotient


def track_numbers(model: nn.Module) -> None:
    """Replace the integers among the attributes of a network's modules by tracked integers, in place."""
    for name, module in model.named_modules():
        for attribute, value in list(vars(module).items()):
            if type(value) is int:
                vars(module)[attribute] = TrackedInt(value, Origin(name, attribute))
            elif type(value) in (tuple, list) and value and all(type(item) is int for item in value):
                vars(module)[attribute] = type(value)(
                    TrackedInt(item, Origin(name, attribute, place)) for place, item in enumerate(value))


def tracked(arguments) -> list[TrackedInt]:
    """Return the tracked integers among the arguments of a call, also in nested tuples, lists, slices and dicts."""
    if isinstance(arguments, TrackedInt):
        return [arguments]
    if isinstance(arguments, dict):
        arguments = arguments.values()
    elif isinstance(arguments, slice):
        arguments = (arguments.start, arguments.stop)
    elif isinstance(arguments, torch.Size) or not isinstance(arguments, tuple | list):
        return []
    return [number for argument in arguments for number in tracked(argument)]
