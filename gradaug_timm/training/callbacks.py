"""What users add to a run: their own code after updates, after validation and at checkpoints."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from .run import Run

PLAIN = (str, int, float, bool, type(None), torch.Tensor)


class Callback:
    """Code that a run calls; subclasses override what they need.

    All processes of a run call it. What `state_dict` returns is part of each checkpoint (the first process's), and
    comes back by `load_state_dict` where the run is resumed, before its first update.

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
        """Called after each optimizer step.

        Args:
            run: The run; `run.task`, `run.optimizer` and others are there to be read.
            update: The number of optimizer steps until now.
            losses: The losses [] of the last batch by name, on the device.
        """

    def after_validation(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """Called after each validation, before the checkpoint of the epoch is written.

        Args:
            run: The run.
            epoch: The number of the epoch, from 0.
            metrics: The metrics of the validation split; those of training where there is none.
        """

    def at_checkpoint(self, run: Run, path: str | None) -> None:
        """Called after each checkpoint is written.

        Args:
            run: The run.
            path: The file; None in processes that write none.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs: tensors and plain values, in lists and dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` returned."""


class Stateful(Protocol):
    """A callback, or a logger."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def names_of(parts: Iterable[Stateful]) -> dict[str, Stateful]:
    """Return the parts by the names of their classes; those of one class are numbered: `Patience`, `Patience-1`."""
    found: dict[str, Stateful] = {}
    for part in parts:
        name = type(part).__qualname__
        number = sum(key.partition('-')[0] == name for key in found)
        found[f'{name}-{number}' if number else name] = part
    return found


def states_of(parts: Iterable[Stateful]) -> dict[str, dict] | None:
    """Return the states of parts by their names; None where none has one.

    Raises:
        ValueError: A state holds something that no checkpoint takes.
    """
    states = {name: part.state_dict() for name, part in names_of(parts).items()}
    for name, state in states.items():
        fault = _first_fault(state)
        if fault is not None:
            raise ValueError(
                f'{name}.state_dict() holds {fault}; checkpoints take tensors, numbers, texts, lists and dicts')
    return {name: state for name, state in states.items() if state} or None


def restore_states(parts: Iterable[Stateful], states: Mapping[str, dict] | None) -> list[str]:
    """Give each part its state; return the names of those that the checkpoint doesn't know."""
    unknown = []
    for name, part in names_of(parts).items():
        if states and name in states:
            part.load_state_dict(states[name])
        elif part.state_dict():
            unknown.append(name)
    return unknown


def _first_fault(value: Any) -> str | None:
    """Return the type of the first value that `torch.load` with `weights_only` refuses; None if there is none."""
    if isinstance(value, dict):
        return next(filter(None, map(_first_fault, (*value, *value.values()))), None)
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(_first_fault, value)), None)
    return None if isinstance(value, PLAIN) else f'{type(value).__name__} {value!r}'[:80]
