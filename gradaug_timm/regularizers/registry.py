"""Regularisers by name, their settings, and how networks get them."""
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..hints import nearest
from ..registry import Registry

Add = Callable[..., nn.Module]


@dataclass(frozen=True)
class Regularizer:
    """A registered regulariser; the arguments are those of `register_regularizer`."""
    add: Add
    last: bool = False
    in_evaluation: bool = False
    has_flags: bool = False

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """The settings, as `add` has them after the network; the first is what a flag of its name gives."""
        return tuple(inspect.signature(self.add).parameters.values())[1:]


REGULARIZERS: Registry[str, Regularizer] = Registry('regulariser')


def register_regularizer(
        name: str,
        *,
        last: bool = False,
        in_evaluation: bool = False,
        has_flags: bool = False,
) -> Callable[[Add], Add]:
    """Return a decorator that registers a function `add(model, setting=..., *, other=...)`, which gives back `model`.

    The function adds the regulariser to a network in place; it changes no key of the state dict, and raises a
    ValueError where the network has no place for it or a setting is out of range.

    Args:
        name: Its name in settings.
        last: Whether it is added after the others, since it joins what is at the end of a residual branch.
        in_evaluation: Whether it changes what the network computes in evaluation mode, so that whoever evaluates a
            checkpoint has to add it, too.
        has_flags: Whether train.py has flags of its own for it: `--NAME` for the first setting, `--NAME-SETTING` for
            the others. The rest share `--regularizer NAME SETTING=VALUE`.

    Raises:
        ValueError: Another one has that name.

    Example:
        >>> import timm
        >>> from gradaug_timm import register_regularizer
        >>> from gradaug_timm.regularizers import REGULARIZERS, add_regularizers
        >>> @register_regularizer('head_dropout')
        ... def add_head_dropout(model, rate=0.1):
        ...     model.drop_rate = rate
        ...     return model
        >>> add_regularizers(timm.create_model('test_resnet'), {'head_dropout': {'rate': 0.3}}).drop_rate
        0.3
        >>> REGULARIZERS.remove('head_dropout')
    """
    def register(add: Add) -> Add:
        REGULARIZERS.add(name, Regularizer(add, last, in_evaluation, has_flags), by=add)
        return add
    return register


def complete_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a regulariser, lists as tuples; those that aren't given have their defaults.

    Args:
        name: The regulariser.
        given: Its settings by name; None stands for the default.

    Raises:
        ValueError: The regulariser or a setting is unknown, or one without default is missing.
    """
    parameters = {each.name: each for each in REGULARIZERS.find(name).parameters}
    given = {key: tuple(value) if isinstance(value, list) else value
             for key, value in given.items() if value is not None}
    problems = [f'unknown setting {key!r} of {name}, {_hint(key, parameters)}' for key in given.keys() - parameters]
    problems += [f'{name} needs the setting {key!r}' for key, each in parameters.items()
                 if each.default is inspect.Parameter.empty and key not in given]
    if problems:
        raise ValueError('; '.join(sorted(problems)))
    return {key: given.get(key, each.default) for key, each in parameters.items()}


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of regularisers in the order in which they are added.

    Raises:
        ValueError: One is unknown.
    """
    return sorted(names, key=lambda name: REGULARIZERS.find(name).last)


def add_regularizers(model: nn.Module, chosen: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """Add regularisers to a network, in place.

    Args:
        model: The network; before `make_elastic`.
        chosen: The settings of each, by its name.

    Returns:
        `model`.

    Raises:
        ValueError: One is unknown, has wrong settings, or finds no place in the network; the message begins with its
            name.
    """
    for name in in_order(chosen):
        settings = complete_settings(name, chosen[name])
        try:
            REGULARIZERS[name].add(model, **settings)
        except ValueError as error:
            raise ValueError(f'{name} can\'t be used with {type(model).__name__}: {error}') from error
    return model


def _hint(key: str, known: Mapping[str, Any]) -> str:
    close = nearest(key, known)
    return f'did you mean {close}?' if close else f'it has {", ".join(known) or "none"}'
