"""A check of a data set in COCO's format before training: counts, faults, and images in both splits."""
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ..cli import one_line, table
from .categories import Category
from .coco import Coco, check_trainable, read_annotations
from .findings import COMPLETED, LEFT_OUT, Findings
from .images import ImageEntry, compare_sizes, missing_files, stored_size
from .reading import find_annotations

EXAMPLES = 3  # names in a line
SMALL, LARGE = 32 ** 2, 96 ** 2  # COCO's limits of areas in pixels
ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89P': b'IEND'}  # bytes that a whole file ends with, by those that it begins with
TAIL = 64  # bytes in which the end is looked for


@dataclass
class SplitCheck:
    """What a split holds, and what is wrong with it.

    Args:
        split: The name of the split.
        path: The file of annotations.
        images: Number of images.
        images_without_objects: Number of images without an object that is trained on.
        annotations: Number of annotations that are used or evaluated.
        crowds: Number of annotations of groups, which are not trained on.
        categories: Number of objects that are trained on, by the name of the category.
        areas: Number of objects by COCO's classes of area.
        sizes: Number of images by size, such as '640x480', the most frequent first.
        findings: Number of faults by kind, with text and examples.
        missing: Names of images without a file.
        unreadable: Names of images that can't be read, with the reason.
        errors: Why training would be wrong or impossible.
        warnings: What is worth a look.
    """

    split: str
    path: str = ''
    images: int = 0
    images_without_objects: int = 0
    annotations: int = 0
    crowds: int = 0
    categories: dict[str, int] = field(default_factory=dict)
    areas: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class CocoCheck:
    """A check of the splits of a data set.

    Args:
        splits: The splits, training first.
        duplicates: Images of validation whose file is also in training, each with the name there.
    """

    splits: list[SplitCheck]
    duplicates: list[tuple[str, str]] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """Why training would be wrong or impossible."""
        return [error for split in self.splits for error in split.errors]

    @property
    def warnings(self) -> list[str]:
        """What is worth a look."""
        warnings = [warning for split in self.splits for warning in split.warnings]
        if self.duplicates:
            warnings.append(f'{len(self.duplicates)} images of {self.splits[1].split} are also in '
                            f'{self.splits[0].split}: {_first([name for name, _ in self.duplicates])}')
        return warnings

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as for JSON."""
        return {**asdict(self), 'errors': self.errors, 'warnings': self.warnings}

    def lines(self) -> Iterator[str]:
        """Yield the lines of the report."""
        facts: dict[str, list[str]] = {
            'images': [f'{each.images:,}' for each in self.splits],
            'without objects': [f'{each.images_without_objects:,}' for each in self.splits],
            'missing files': [f'{len(each.missing):,}' for each in self.splits],
            'unreadable files': [f'{len(each.unreadable):,}' for each in self.splits],
            'annotations': [f'{each.annotations:,}' for each in self.splits],
            'crowds': [f'{each.crowds:,}' for each in self.splits],
            **{f'{name} objects': [f'{each.areas.get(name, 0):,}' for each in self.splits]
               for name in ('small', 'medium', 'large')},
        }
        yield from table([['', *(each.split for each in self.splits)], *([name, *row] for name, row in facts.items())],
                         figures=True)
        yield ''
        names = [*dict.fromkeys(name for each in self.splits for name in each.categories)]
        yield from table([['category', *(each.split for each in self.splits)],
                          *([name, *(f'{each.categories.get(name, 0):,}' for each in self.splits)] for name in names)],
                         figures=True)
        for title, lines in (('warning', self.warnings), ('error', self.errors)):
            yield from (f'{title}: {line}' for line in lines)


def check_coco(
        root: str,
        splits: Sequence[str] = ('train2017', 'val2017'),
        *,
        masks: bool = False,
        pixels: bool = True,
) -> CocoCheck:
    """Check a data set in COCO's format; labels of all splits are those of the first.

    Args:
        root: The folder of the data set.
        splits: The splits, training first.
        masks: Whether each object needs a mask.
        pixels: Whether to look at the files of the images, not only at the annotations.
    """
    checks, images = [], []
    trained: Sequence[Category] | None = None
    for split in splits:
        check, coco = check_split(root, split, masks=masks, trained=trained, pixels=pixels)
        checks.append(check)
        images.append(coco.images if coco is not None else [])
        if trained is None and coco is not None:
            trained = coco.categories
    return CocoCheck(checks, find_duplicates(*images[:2]) if pixels and len(images) > 1 else [])


def check_split(
        root: str,
        split: str,
        *,
        masks: bool,
        trained: Sequence[Category] | None = None,
        pixels: bool = True,
) -> tuple[SplitCheck, Coco | None]:
    """Check a split; return also its annotations, None if they can't be used.

    Args:
        root: The folder of the data set.
        split: The split.
        masks: Whether each object needs a mask.
        trained: The categories in the order of labels; None: those of the file.
        pixels: Whether to look at the files of the images.
    """
    check, coco = SplitCheck(split), None
    findings = Findings('')

    def find(images: list[ImageEntry]) -> None:
        check.images = len(images)
        if pixels:
            check.missing.extend(missing_files(images, root, split, check.path))
            if check.missing:
                check.errors.append(f'{check.path}: {len(check.missing)} of {len(images)} images have no file: '
                                    f'{_first(check.missing)}')

    try:
        check.path = findings.path = find_annotations(root, split)
        coco = read_annotations(check.path, findings, masks=masks, trained=trained, prepare=find)
        _count(check, coco)
        if pixels:
            compare_sizes(coco.images, findings, limit=None)
    except (OSError, ValueError) as error:
        check.errors.append(one_line(error, None))
    if coco is not None and pixels:
        check.unreadable.extend(unreadable_images(coco.images))
    _note(check, findings)
    return check, coco


def _count(check: SplitCheck, coco: Coco) -> None:
    objects = [each for found in coco.objects.values() for each in found]
    labels = Counter(each.label for each in objects if each.trained)
    areas = np.fromiter((each.area for each in objects if each.trained), dtype=float)
    check.images, check.annotations = len(coco.images), len(objects)
    check.crowds = sum(each.crowd for each in objects)
    with_objects = sum(any(each.trained for each in found) for found in coco.objects.values())
    check.images_without_objects = len(coco.images) - with_objects
    check.categories = {name: labels[label] for label, name in enumerate(coco.names, 1)}
    check.areas = {'small': int((areas < SMALL).sum()), 'medium': int(((areas >= SMALL) & (areas < LARGE)).sum()),
                   'large': int((areas >= LARGE).sum())}
    sizes = Counter((each.width, each.height) for each in coco.images)
    check.sizes = {f'{width}x{height}': times for (width, height), times in sizes.most_common()}
    check_trainable(coco)


def _note(check: SplitCheck, findings: Findings) -> None:
    texts = {**LEFT_OUT, **COMPLETED}
    for kind, found in findings.kinds.items():
        check.findings[kind] = {'count': found.count, 'text': texts[kind], 'examples': found.examples}
    check.warnings.extend(line for warns, line in findings.lines() if warns)
    if check.unreadable:
        check.warnings.append(
            f'{check.path}: {len(check.unreadable)} images can\'t be read: {_first(check.unreadable)}')
    lonely = [name for name, count in check.categories.items() if 0 < count < 10]
    if lonely:
        check.warnings.append(f'{check.path}: categories with fewer than 10 objects: {_first(lonely)}')


def unreadable_images(images: Sequence[ImageEntry]) -> Iterator[str]:
    """Yield names of images that can't be read, with the reason; only files that seem to be cut are read whole."""
    for image in images:
        if not image.path:
            continue
        try:
            stored_size(image.path)
            if _seems_cut(image.path):
                with Image.open(image.path) as file:
                    file.load()
        except Exception as error:  # image libraries raise anything on a broken file
            yield f'{image.name} ({one_line(error, kind=True)})'


def _seems_cut(path: str) -> bool:
    """Return whether a file doesn't end as a whole file of its format does; False for unknown formats."""
    with open(path, 'rb') as file:
        begin = file.read(2)
        file.seek(max(0, os.path.getsize(path) - TAIL))
        return begin in ENDS and ENDS[begin] not in file.read()


def find_duplicates(train: Sequence[ImageEntry], validation: Sequence[ImageEntry]) -> list[tuple[str, str]]:
    """Return the images of validation whose files are also in training, by content, each with its name there."""
    sizes: dict[int, list[ImageEntry]] = {}
    for image in train:
        if image.path:
            sizes.setdefault(os.path.getsize(image.path), []).append(image)
    digests: dict[int, dict[bytes, str]] = {}
    found = []
    for image in validation:
        size = os.path.getsize(image.path) if image.path else -1
        if size not in sizes:
            continue
        if size not in digests:
            digests[size] = {_digest(other.path): other.name for other in sizes[size]}
        other = digests[size].get(_digest(image.path))
        if other is not None:
            found.append((image.name, other))
    return found


def _digest(path: str) -> bytes:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').digest()


def _first(names: Sequence[str]) -> str:
    return ', '.join(names[:EXAMPLES]) + (', ...' if len(names) > EXAMPLES else '')
