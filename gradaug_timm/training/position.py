"""How far a run has come."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """The first `batch` batches of `epoch` are trained, on each process, and all of the epochs before."""

    epoch: int = 0
    batch: int = 0
