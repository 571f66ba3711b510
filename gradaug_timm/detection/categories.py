"""Categories of an annotation file, and their labels: compared by name between files."""
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data.class_names import listed
from ..hints import nearest
from .findings import Findings
from .reading import Annotation
from .values import LARGEST, key_of


@dataclass(frozen=True)
class Category:
    """A category.

    Args:
        key: Its id in the file, a number or text.
        name: Its name.
        named: Whether the file has a name for it.
    """

    key: int | str
    name: str
    named: bool = True


def read_categories(content: dict, findings: Findings) -> list[Category]:
    """Return the categories of a file in the order of labels: by ascending id, or as listed where ids are text.

    Categories that are not listed are taken from the annotations.

    Raises:
        ValueError: Ids are missing or repeated, or there are no categories.
    """
    path = findings.path
    entries = content['categories'] or _categories_of(content['annotations'])
    if not entries:
        raise ValueError(f'{path} has no categories')
    if not content['categories']:
        findings.add('categories_listed', f'{len(entries)} ids')
    found: list[Category] = []
    for number, entry in enumerate(entries):
        key = key_of(entry.get('id'))
        if key is None:
            raise ValueError(f'{path}: category {entry.get("name", number)} has no id')
        if type(entry['id']) is not int:
            findings.add('converted_ids', f'category {entry["id"]!r}')
        name = entry.get('name')
        named = name is not None and str(name) != ''
        if not named and content['categories']:
            findings.add('names_made', f'category {key}')
        found.append(Category(key, str(name) if named else made_name(key), named))
    twice = [key for key, times in Counter(each.key for each in found).items() if times > 1]
    if twice:
        raise ValueError(f'{path} has category {twice[0]} twice')
    numbers = all(isinstance(each.key, int) and abs(each.key) < LARGEST for each in found)
    return sorted(found, key=lambda each: each.key) if numbers else found


def made_name(key: int | str) -> str:
    """Return the name of a category that has none in its file."""
    return f'category {key}'


def _categories_of(annotations: list[Annotation]) -> list[dict[str, Any]]:
    names = {key_of(entry.category_id): entry.category_name for entry in annotations}
    names.pop(None, None)
    keys = sorted(names, key=lambda key: (isinstance(key, str), key))
    return [{'id': key, 'name': names[key]} for key in keys]


def labels_by_key(
        own: Sequence[Category],
        trained: Sequence[Category] | None,
) -> dict[int | str, int]:
    """Return the label, from 1 on, of each category of a file; categories that were not trained are left out.

    Args:
        own: The categories of the file.
        trained: The categories in the order of labels; None: those of the file.
    """
    if trained is None:
        return {each.key: label for label, each in enumerate(own, 1)}
    by_key = {each.key: label for label, each in enumerate(trained, 1)}
    by_name = {name: label for name, label in _unique(trained).items()}
    pairs = {(each.key, each.name): label for label, each in enumerate(trained, 1)}
    unique = _unique(own)
    found = {}
    for each in own:
        if (each.key, each.name) in pairs:
            label = pairs[each.key, each.name]
        elif each.named and each.key in by_key and not trained[by_key[each.key] - 1].named:
            label = by_key[each.key]
        elif each.named:
            label = by_name.get(each.name) if each.name in unique else None
        else:
            label = by_key.get(each.key)
        if label is not None:
            found[each.key] = label
    return found


def _unique(categories: Sequence[Category]) -> dict[str, int]:
    """Return labels of the names that only one category has."""
    times = Counter(each.name for each in categories)
    return {each.name: label for label, each in enumerate(categories, 1) if each.named and times[each.name] == 1}


def compare(
        own: Sequence[Category],
        trained: Sequence[Category],
        labels: dict[int | str, int],
        counts: Counter,
        findings: Findings,
) -> None:
    """Name the categories that only one of file and training has.

    Args:
        own: The categories of the file.
        trained: The trained categories, in the order of labels.
        labels: Labels by id in the file.
        counts: Objects by id in the file.
        findings: Where to note them.

    Raises:
        ValueError: Objects of the file have categories that were not trained.
    """
    unknown = [each for each in own if each.key not in labels]
    used = [each for each in unknown if counts[each.key]]
    lacking = [each.name for label, each in enumerate(trained, 1) if label not in labels.values()]
    if used:
        close = nearest(used[0].name, lacking)
        hint = f', did you mean {close}?' if close else ''
        raise ValueError(
            f'{findings.path} has objects of categories that are not trained: {listed(each.name for each in used)}; '
            f'the trained categories that it lacks: {listed(lacking) or "none"}{hint}')
    for each in unknown:
        findings.add('unknown_unused', each.name)
    for name in lacking:
        findings.add('lacking_categories', name)
