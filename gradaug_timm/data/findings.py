"""Findings about data: faults and peculiarities, each in one line."""
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """What a finding means for training."""

    ERROR = 'error'
    WARNING = 'warning'
    NOTE = 'note'


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one data set.

    Args:
        level: An error means that training would be wrong or would not start.
        kind: The kind, as a key for programs.
        text: The finding in one line: what was found, and what to do.
        examples: Names of images or files, for files of results; the line names some of them.
    """

    level: Level
    kind: str
    text: str
    examples: tuple[str, ...] = ()


def counted(counts: Iterable[tuple[str, int]], most: int = 6) -> str:
    """Write kinds and their numbers for a message, the most frequent kinds first."""
    ordered = sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    parts = [f'{number:,} {kind}' for kind, number in ordered[:most]]
    return ', '.join([*parts, f'{len(ordered) - most} more kinds'] if len(ordered) > most else parts)
