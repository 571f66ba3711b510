"""Callbacks: the user's own code after updates, after validation and at checkpoints."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..files import first_unsafe

if TYPE_CHECKING:
    from .run import Run


class Callback:
    """Base class of code that a run calls; subclasses override the methods that they need.

    All processes of a run call the methods. Each checkpoint contains the `state_dict` of the first process. A resumed
    run passes it to `load_state_dict` in all processes, before the first update.

    Example:
        >>> from gradaug_timm import Callback
        >>> class Patience(Callback):
        ...     def __init__(self):
        ...         self.best = 0.
        ...     def after_validation(self, run, epoch, metrics):
        ...         self.best = max(self.best, metrics['top1'])
        ...     def state_dict(self):
        ...         return {'best': self.best}
        ...     def load_state_dict(self, state):
        ...         self.best = state['best']
        >>> Patience().state_dict()
        {'best': 0.0}
    """

    def after_update(self, run: Run, update: int, losses: Mapping[str, torch.Tensor]) -> None:
        """React to an optimizer step; called after each.

        Args:
            run: The run; read `run.task`, `run.optimizer` and its other attributes.
            update: The number of optimizer steps so far.
            losses: The losses [] of the last batch by name, on the device.
        """

    def after_validation(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """React to a validation; called after each, before the checkpoint of the epoch is written.

        Args:
            run: The run.
            epoch: The number of the epoch, from 0.
            metrics: The metrics of the validation split, or of training if there is no validation split.
        """

    def at_checkpoint(self, run: Run, path: str | None) -> None:
        """React to a checkpoint; called after each is written, except for the one just before validation.

        Args:
            run: The run.
            path: The file; None in processes that write no checkpoints.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state that resuming needs: tensors and plain values, in lists and dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""


class Stateful(Protocol):
    """A callback, or a logger."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def names_of(parts: Iterable[Stateful]) -> dict[str, Stateful]:
    """Return the parts by class name; several parts of one class are numbered: `Patience`, `Patience-1`."""
    found: dict[str, Stateful] = {}
    for part in parts:
        name = type(part).__qualname__
        number = sum(key.partition('-')[0] == name for key in found)
        found[f'{name}-{number}' if number else name] = part
    return found


def states_of(parts: Iterable[Stateful]) -> dict[str, dict] | None:
    """Return the states of the parts by name; None if no part has a state.

    Raises:
        ValueError: A state holds a value that checkpoints do not support.
    """
    states = {name: part.state_dict() for name, part in names_of(parts).items()}
    for name, state in states.items():
        fault = first_unsafe(state)
        if fault is not None:
            raise ValueError(
                f'{name}.state_dict() holds {fault}; checkpoints support tensors, numbers, strings, lists and dicts')
    return {name: state for name, state in states.items() if state} or None


def restore_states(parts: Iterable[Stateful], states: Mapping[str, dict] | None) -> list[str]:
    """Restore the state of each part; return the names of parts whose state is missing in the checkpoint."""
    unknown = []
    for name, part in names_of(parts).items():
        if states and name in states:
            part.load_state_dict(states[name])
        elif part.state_dict():
            unknown.append(name)
    return unknown
