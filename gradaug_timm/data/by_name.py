"""Labels by name: images get the labels that a network was trained with, whatever folders their data set has."""
import logging
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from .class_names import MERGED, class_labels, in_order, innermost, listed
from .labels import known_labels

_logger = logging.getLogger(__name__)


class ByName:
    """Target transform from the labels of a data set to the labels of other classes.

    Args:
        places: The new label of each label.
        class_names: The names of the classes in the order of new labels.
        then: Target transform that is applied afterwards.
        dense: Whether targets are vectors with a value for each class.
    """

    def __init__(
            self,
            places: Mapping[int, int],
            class_names: tuple[str, ...],
            *,
            then: Callable | None = None,
            dense: bool = False,
    ):
        self.places, self.class_names, self.then, self.dense = dict(places), class_names, then, dense

    def __call__(self, target: Any) -> Any:
        moved = self._moved(target)
        return moved if self.then is None else self.then(moved)

    def _moved(self, target: Any) -> Any:
        if self.dense:
            values = [0.] * len(self.class_names)
            for old, new in self.places.items():
                values[new] = float(target[old])
            return values
        if isinstance(target, Sequence) or getattr(target, 'ndim', 0) > 0:
            return [self._place(int(label)) for label in target]
        return self._place(int(target))

    def _place(self, label: int) -> int:
        if label not in self.places:
            raise ValueError(f'label {label} has no class name, and labels follow the names of the classes')
        return self.places[label]


def use_labels_of(
        names: Sequence[str],
        dataset: Dataset,
        *,
        what: str,
        known_to: str,
        mapped: bool = False,
        dense: bool = False,
) -> None:
    """Give the images of a data set the labels that other data have for their classes, by name.

    A data set without class names keeps its labels.

    Args:
        names: The names of the classes in the order of labels, as `class_names` returns them.
        dataset: The data set, which is changed in place.
        what: What the data set is, for messages.
        known_to: Who knows `names`, for messages.
        mapped: Whether the user has given a class map: its labels are taken for names that are not known.
        dense: Whether targets are vectors with a value for each class.

    Raises:
        ValueError: The data set has classes that are not among `names`.
    """
    source = innermost(dataset)
    labels = class_labels(source)
    if labels is None or in_order(labels) == tuple(names):
        return
    places = places_of(names)
    unknown = _with_images([name for name in labels if plain(name) not in places], labels, dataset)
    if unknown and mapped and not _contradicted(labels, places):
        return
    if unknown:
        hint = '' if mapped else '; remove them, or number all classes by --class-map'
        raise ValueError(f'{what} has classes that {known_to} does not have: {listed(unknown)}; it has '
                         f'{listed(name for name in names if name)}{hint}')
    found = {label: places[plain(name)] for name, label in labels.items() if plain(name) in places}
    missing = sorted(set(range(len(names))) - {*found.values()} - _unnamed(names))
    if missing:
        _logger.info(f'{what} lacks {len(missing)} of the {len(names)} classes of {known_to}: '
                     f'{listed(names[label] for label in missing)}. Labels follow the names of the classes.')
    source.target_transform = ByName(found, tuple(names), then=source.target_transform, dense=dense)


def places_of(names: Sequence[str]) -> dict[str, int]:
    """Return labels by name, without names of two classes."""
    found: dict[str, set[int]] = {}
    for label, name in enumerate(names):
        for part in {name, *name.split(MERGED)} - {''}:
            found.setdefault(plain(part), set()).add(label)
    return {name: labels.pop() for name, labels in found.items() if len(labels) == 1}


def same_names(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether two data sets have the same classes in the same order."""
    return [*map(plain, first)] == [*map(plain, second)]


def _with_images(names: Sequence[str], labels: Mapping[str, int], dataset: Dataset) -> list[str]:
    """Return those of the names that images have; all if labels are not known without reading images."""
    present = known_labels(dataset) if names and not isinstance(dataset, IterableDataset) else None
    return [name for name in names if present is None or labels[name] in present]


def _contradicted(labels: Mapping[str, int], places: Mapping[str, int]) -> bool:
    """Return whether a known class has another label."""
    return any(places.get(plain(name), label) != label for name, label in labels.items())


def _unnamed(names: Sequence[str]) -> set[int]:
    return {label for label, name in enumerate(names) if not name}


def plain(name: str) -> str:
    """Return a name with accents written in one way; file systems write them in two."""
    return unicodedata.normalize('NFC', name)
