"""The progress of a run."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """The progress of a run: all epochs before `epoch`, and `batch` batches of it on each process, are trained."""

    epoch: int = 0
    batch: int = 0
