"""Units of channels: a union-find over all dimensions of all tensors, in arrays."""
import numpy as np

from .trace import Key


class Units:
    """Units: channels that are kept or dropped together.

    Args:
        channels: Key -> number of entries.
    """

    def __init__(self, channels: dict[Key, int]):
        starts = np.cumsum([0, *channels.values()])
        self.span = {key: slice(start, stop) for key, start, stop in zip(channels, starts, starts[1:])}
        self.count = int(starts[-1])
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def tie(self, a: Key, a_entries: np.ndarray, b: Key, b_entries: np.ndarray) -> None:
        """Put entries of one key into the same units as entries of another key, pair by pair."""
        self._pairs.append((self.span[a].start + a_entries, self.span[b].start + b_entries))

    def labels(self) -> np.ndarray:
        """Return for each entry the smallest number among the entries of the same unit, int [count]."""
        labels = np.arange(self.count)
        a, b = (np.concatenate([pair[i] for pair in self._pairs]) for i in (0, 1)) if self._pairs else ([], [])
        while True:
            before = labels.copy()
            smallest = np.minimum(labels[a], labels[b])
            np.minimum.at(labels, a, smallest)
            np.minimum.at(labels, b, smallest)
            labels = labels[labels]
            if (labels == before).all():
                return labels
