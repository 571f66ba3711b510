"""What the counts of the splits mean for training."""
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence

from ..data.class_names import listed, title_of
from ..data.findings import Finding, Level
from .images import full_digest
from .split import Entry, Split

TOLERATED = 0.01  # share of a split up to which faults of single images are warnings
UNEQUAL = 10  # ratio of the largest to the smallest class from which classes are called imbalanced
EXAMPLES = 3


def split_findings(
        split: Split,
        *,
        num_classes: int | None = None,
) -> Iterator[Finding]:
    """Yield the findings about one split.

    Args:
        split: The counts.
        num_classes: Number of classes of the network; None if it is not known.
    """
    if not split.images:
        yield Finding(Level.ERROR, 'no_images', f'{split.name}: there are no images')
        return
    if split.faults:
        yield of_single_images(
            split, 'unreadable', split.faults, 'cannot be read',
            [f'{name} ({reason})' for name, reason in split.unreadable.items()])
    if split.wrong_labels:
        shown = [f'{label} of {name}' for name, label in split.wrong_labels.items()]
        yield Finding(
            Level.ERROR, 'wrong_labels', f'{split.name}: labels are not whole numbers from 0 on: {listed(shown, 3)}',
            tuple(shown))
    if split.labels and num_classes is not None and max(split.labels) >= num_classes:
        yield _beyond_range(split, num_classes)
    if split.turned:
        yield Finding(
            Level.NOTE, 'exif_rotations', f'{split.name}: {split.turned:,} images have an EXIF rotation, which '
            'training and validation do not apply')


def class_findings(train: Split, validation: Split | None, *, multi_label: bool = False) -> Iterator[Finding]:
    """Yield the findings about classes that are missing or imbalanced."""
    if len(train.labels) == 1 and not multi_label:
        yield Finding(Level.ERROR, 'single_class', f'{train.name}: all images have the same label, {min(train.labels)}')
    empty = [name for name, number in train.classes.items() if not number]
    if empty and train.labels:
        yield Finding(
            Level.WARNING, 'empty_classes', f'{train.name}: {len(empty)} classes have no images: {listed(empty)}',
            tuple(empty))
    filled = {name: number for name, number in train.classes.items() if number}
    if filled and max(filled.values()) >= UNEQUAL * min(filled.values()):
        most, least = max(filled, key=filled.__getitem__), min(filled, key=filled.__getitem__)
        yield Finding(
            Level.WARNING, 'imbalance', f'{train.name}: class {most!r} has {filled[most]:,} images, and {least!r} '
            f'{filled[least]:,}; see --loss-class-weight')
    if validation is None or not validation.labels:
        return
    missing = [name for name in filled if not validation.classes.get(name)]
    if missing:
        yield Finding(
            Level.WARNING, 'missing_classes', f'{validation.name}: {len(missing)} of {len(filled)} classes have no '
            f'images: {listed(missing)}', tuple(missing))
    unknown = [name for name, number in validation.classes.items() if number and not filled.get(name)]
    if unknown:
        yield Finding(
            Level.ERROR, 'untrained_classes', f'{validation.name}: {len(unknown)} classes have no images in '
            f'{train.name}: {listed(unknown)}', tuple(unknown))


def duplicate_findings(train: Split, validation: Split | None, names: Sequence[str] | None = None) -> Iterator[Finding]:
    """Yield the findings about images that occur several times.

    Args:
        train: The training split.
        validation: The validation split; None if there is none.
        names: Names of the classes.
    """
    copies = [entries for entries in _groups(train.contents) if len(entries) > 1]
    doubted = [entries for entries in copies if len({entry.labels for entry in entries}) > 1]
    if doubted:
        yield of_single_images(
            train, 'contradicting_labels', sum(map(len, doubted)), 'have the same content and different labels',
            [' = '.join(f'{entry.name} ({_titles(entry, names)})' for entry in entries) for entries in doubted])
    same = [entries for entries in copies if len({entry.labels for entry in entries}) == 1]
    if same:
        yield Finding(
            Level.NOTE, 'repeated_images', f'{train.name}: {sum(map(len, same)) - len(same):,} images are copies of '
            f'others with the same label, such as {same[0][1].name} of {same[0][0].name}',
            tuple(' = '.join(entry.name for entry in entries) for entries in same))
    if validation is None:
        return
    leaked = []
    for digest in train.contents.keys() & validation.contents.keys():
        trained = {_key(digest, entry): entry.name for entry in train.contents[digest]}
        leaked += [(entry.name, trained[key]) for entry in validation.contents[digest]
                   if (key := _key(digest, entry)) in trained]
    if leaked:
        leaked.sort()
        yield of_single_images(
            validation, 'leaks', len(leaked), f'are also in {train.name}',
            [f'{ours} = {theirs}' for ours, theirs in leaked])


def _beyond_range(split: Split, num_classes: int) -> Finding:
    lowest, highest = min(split.labels), max(split.labels)
    beyond = sum(number for label, number in split.labels.items() if label >= num_classes)
    return Finding(
        Level.ERROR, 'label_range', f'{split.name}: labels are {lowest} to {highest}, but the network has '
        f'{num_classes} classes ({beyond:,} images are beyond); use --num-classes {highest + 1}')


def of_single_images(split: Split, kind: str, number: int, text: str, examples: list[str]) -> Finding:
    """Return a finding about single images: an error if they are more than a tolerated share of the split."""
    share = number / split.images
    level = Level.ERROR if share >= TOLERATED else Level.WARNING
    return Finding(
        level, kind, f'{split.name}: {number:,} of {split.images:,} images {text}: {listed(examples, EXAMPLES)}',
        tuple(examples))


def _groups(contents: dict[bytes, list[Entry]]) -> Iterator[list[Entry]]:
    """Yield the entries of each content; entries whose digest is not one of the whole content are compared again."""
    for digest, entries in contents.items():
        if len(entries) == 1:
            yield entries
            continue
        groups = defaultdict(list)
        for entry in entries:
            groups[_key(digest, entry)].append(entry)
        yield from groups.values()


def _key(digest: bytes, entry: Entry) -> bytes:
    """Return a digest of the whole content of an image; of images that are not files that of their parts."""
    return digest if entry.whole or not os.path.isfile(entry.name) else full_digest(entry.name)


def _titles(entry: Entry, names: Sequence[str] | None) -> str:
    return ', '.join(title_of(label, names) for label in entry.labels) or 'no label'
