"""Names of classes: folders, ClassLabels, class maps and the lists of torchvision's data sets."""
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from ..upstream import reader_of, source_names

MERGED = ' + '  # joins the names that a class map gives the same label


def class_names(dataset: Dataset) -> tuple[str, ...] | None:
    """Return the names of a data set's classes in the order of labels.

    A label without a name has an empty name. Names that a class map gives the same label are joined by ' + '.

    Args:
        dataset: A data set of any reader, or one that selects from such a data set or transforms it.

    Returns:
        The names; None if the data set has none.
    """
    source = innermost(dataset)
    for holder in (source, getattr(source, 'target_transform', None)):  # of by_name.py: labels are those of other data
        names = getattr(holder, 'class_names', None)
        if names:
            return tuple(names)
    labels = class_labels(source)
    return None if labels is None else in_order(labels)


def class_labels(dataset: Dataset) -> dict[str, int] | None:
    """Return labels by class name, as the data set itself numbers them; None if it has no class names."""
    source = reader_of(innermost(dataset))
    if getattr(source, 'wnids', None):  # torchvision's ImageNet; its other names are words, some of them of two classes
        return _numbered(source.wnids)
    if getattr(source, 'categories_index', None):  # torchvision's INaturalist
        return _inaturalist_labels(source)
    for found in (getattr(source, name, None) for name in ('class_to_idx', 'class_name_to_idx')):
        if isinstance(found, Mapping) and found:
            return _named(found, source_names(source))
    return _numbered(getattr(source, 'classes', None) or ())


def in_order(labels: Mapping[str, int]) -> tuple[str, ...]:
    """Return names by label: '' for a label without a name, joined names where several have the same label."""
    names: list[list[str]] = [[] for _ in range(max(labels.values()) + 1)]
    for name, label in labels.items():
        names[label].append(name)
    return tuple(map(MERGED.join, names))


def read_names(value: Any) -> tuple[str, ...] | None:
    """Return names from a file that others may have written: a list, or a mapping from labels; None if it is neither.

    Args:
        value: The content, such as timm's `label_names`.
    """
    if isinstance(value, Mapping):
        try:
            value = in_order({str(name): int(label) for label, name in value.items()})
        except (TypeError, ValueError, IndexError):
            return None
    usable = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, str) for each in value)
    return tuple(value) if usable and value else None


def own_names(network: nn.Module) -> tuple[str, ...] | None:
    """Return the names of the classes in timm's metadata of a network; None if they are unknown, or of another head."""
    cfg = getattr(network, 'pretrained_cfg', None) or {}
    same = cfg.get('num_classes') == getattr(network, 'num_classes', None)
    return read_names(cfg.get('label_names')) if same else None


def title_of(label: int, names: Sequence[str] | None) -> str:
    """Return the name of a label; its number if it has none."""
    return (names[label] if names is not None and 0 <= label < len(names) else '') or str(label)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Write names for a message: the first ones, and how many there are."""
    every = list(names)
    more = f', ... ({len(every)} in all)' if len(every) > most else ''
    return f'{", ".join(every[:most])}{more}'


def are_synsets(names: Iterable[str]) -> bool:
    """Return whether all names are WordNet's, as the class folders of ImageNet are: 'n01440764'."""
    return all(re.fullmatch(r'n\d{8}', name) for name in names)


def innermost(dataset: Any) -> Any:
    """Return the data set below those that select from it or transform it."""
    while isinstance(getattr(dataset, 'dataset', None), Dataset):
        dataset = dataset.dataset
    return dataset


def _named(found: Mapping[Any, Any], sources: Mapping[int, str]) -> dict[str, int] | None:
    """Return labels by name; class maps may have numbers of classes in place of names."""
    named = {key if isinstance(key, str) else sources.get(key, ''): label for key, label in found.items()}
    usable = all(isinstance(label, int) and label >= 0 for label in named.values())
    return {name: label for name, label in named.items() if name} or None if usable else None


def _numbered(names: Iterable[Any]) -> dict[str, int] | None:
    return {str(name): label for label, name in enumerate(names)} or None


def _inaturalist_labels(source: Any) -> dict[str, int] | None:
    kind = source.target_type[0] if len(source.target_type) == 1 else ''
    return _numbered(source.all_categories) if kind == 'full' else source.categories_index.get(kind)
