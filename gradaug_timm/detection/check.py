"""A check of a data set in COCO's format before training: counts, faults, and images in both splits."""
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..cli import one_line
from ..data.images import read_image
from .categories import Category
from .coco import Coco, check_trainable, read_annotations
from .findings import COMPLETED, LEFT_OUT, Findings
from .images import ImageEntry, compare_sizes, missing_files, step_of, stored_size
from .reading import find_annotations

EXAMPLES = 3  # names in a line
FEW = 10  # objects of a category
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
        warnings: What is worth a look: kind, text and examples.
        looked_at: Number of image files that were looked at.
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
    warnings: list[tuple[str, str, list[str]]] = field(default_factory=list)
    looked_at: int = 0


@dataclass
class CocoCheck:
    """A check of the splits of a data set.

    Args:
        splits: The splits, training first.
        duplicates: Images of validation whose file is also in training, each with the name there.
        annotations: The annotations of each split; None for those that can't be used.
    """

    splits: list[SplitCheck]
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    annotations: list[Coco | None] = field(default_factory=list, repr=False)

    @property
    def errors(self) -> list[str]:
        """Why training would be wrong or impossible."""
        return [error for split in self.splits for error in split.errors]

    @property
    def warnings(self) -> list[str]:
        """What is worth a look."""
        return [text for _, text, _ in self.warning_details]

    @property
    def warning_details(self) -> list[tuple[str, str, list[str]]]:
        """What is worth a look: kind, text and examples."""
        details = [warning for split in self.splits for warning in split.warnings]
        if self.duplicates:
            names = [name for name, _ in self.duplicates]
            details.append(('duplicates', f'{len(names)} images of {self.splits[1].split} are also in '
                            f'{self.splits[0].split}: {_first(names)}', names))
        return details

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as for JSON."""
        return {'splits': [asdict(split) for split in self.splits], 'duplicates': self.duplicates,
                'errors': self.errors, 'warnings': self.warnings}


def check_coco(
        root: str,
        splits: Sequence[str] = ('train2017', 'val2017'),
        *,
        masks: bool = False,
        strict: bool = False,
        pixels: bool = True,
        decode: bool = False,
        limit: int | None = None,
) -> CocoCheck:
    """Check a data set in COCO's format; labels of all splits are those of the first.

    Args:
        root: The folder of the data set.
        splits: The splits, training first.
        masks: Whether each object needs a mask.
        strict: Whether objects and images that must be left out are an error.
        pixels: Whether to look at the files of the images, not only at the annotations.
        decode: Whether to decode all images; otherwise only files that seem to be cut.
        limit: Number of files of each split that are looked at, evenly spaced; None: all.
    """
    checks: list[SplitCheck] = []
    annotations: list[Coco | None] = []
    trained: Sequence[Category] | None = None
    for split in splits:
        check = SplitCheck(split)
        coco = _read(check, root, masks=masks, strict=strict, trained=trained, pixels=pixels, limit=limit)
        if coco is not None and pixels:
            seen = coco.images[::step_of(len(coco.images), limit)]
            check.looked_at = len(seen)
            check.unreadable.extend(unreadable_images(seen, decode=decode))
            if check.unreadable:
                check.warnings.append((
                    'unreadable', f'{check.path}: {len(check.unreadable)} images can\'t be read: '
                    f'{_first(check.unreadable)}', check.unreadable))
        checks.append(check)
        annotations.append(coco)
        trained = coco.categories if trained is None and coco is not None else trained
    images = [each.images for each in annotations[:2] if each is not None]
    return CocoCheck(checks, find_duplicates(*images) if pixels and len(images) == 2 else [], annotations)


def _read(
        check: SplitCheck,
        root: str,
        *,
        masks: bool,
        strict: bool,
        trained: Sequence[Category] | None,
        pixels: bool,
        limit: int | None,
) -> Coco | None:
    """Read the annotations of a split, and note counts and faults; return None if they can't be used."""
    coco, findings = None, Findings('', strict)

    def find(images: list[ImageEntry]) -> None:
        check.images = len(images)
        if pixels:
            check.missing.extend(missing_files(images, root, check.split, check.path))
            if check.missing:
                check.errors.append(f'{check.path}: {len(check.missing)} of {len(images)} images have no file: '
                                    f'{_first(check.missing)}')

    try:
        check.path = findings.path = find_annotations(root, check.split)
        coco = read_annotations(check.path, findings, masks=masks, trained=trained, prepare=find)
        _count(check, coco)
        if trained is None:
            check_trainable(coco)
        if pixels:
            compare_sizes(coco.images, findings, limit=limit)
    except (OSError, ValueError) as error:
        check.errors.append(one_line(error, None))
    _note(check, findings)
    return coco


def _count(check: SplitCheck, coco: Coco) -> None:
    objects = [each for found in coco.objects.values() for each in found]
    labels = Counter(each.label for each in objects if each.trained)
    areas = np.fromiter((each.area for each in objects if each.trained), dtype=float)
    check.images, check.annotations = len(coco.images), len(objects)
    check.crowds = sum(each.crowd for each in objects)
    with_objects = sum(any(each.trained for each in found) for found in coco.objects.values())
    check.images_without_objects = len(coco.images) - with_objects
    check.categories = {name: labels[label] for label, name in enumerate(coco.unique_names, 1)}
    check.areas = {'small': int((areas < SMALL).sum()), 'medium': int(((areas >= SMALL) & (areas < LARGE)).sum()),
                   'large': int((areas >= LARGE).sum())}
    sizes = Counter((each.width, each.height) for each in coco.images)
    check.sizes = {f'{width}x{height}': times for (width, height), times in sizes.most_common()}


def _note(check: SplitCheck, findings: Findings) -> None:
    texts = {**LEFT_OUT, **COMPLETED}
    for (kind, found), (warns, line) in zip(findings.kinds.items(), findings.lines()):
        check.findings[kind] = {'count': found.count, 'text': texts[kind], 'examples': found.examples}
        if warns:
            check.warnings.append((kind, line, found.examples))
    few = [name for name, count in check.categories.items() if 0 < count < FEW]
    if few:
        check.warnings.append((
            'few_objects', f'{check.path}: {len(few)} categories have fewer than {FEW} objects: {_first(few)}', few))


def unreadable_images(images: Sequence[ImageEntry], *, decode: bool = False) -> Iterator[str]:
    """Yield names of images that can't be read, with the reason.

    Args:
        images: The images.
        decode: Whether to decode all of them; otherwise only files that seem to be cut.
    """
    for image in images:
        if not image.path:
            continue
        try:
            stored_size(image.path)
            if decode or _seems_cut(image.path):
                read_image(image.path, 'RGB')
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
