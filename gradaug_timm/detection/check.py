"""A check of a data set in COCO's format before training: counts, faults, and images in both splits."""
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from ..check_data.judge import of_single_images
from ..check_data.report import Report
from ..check_data.split import Split
from ..cli import one_line
from ..data.class_names import listed
from ..data.findings import Finding, Level
from ..data.images import read_image
from .categories import Category
from .coco import Coco, check_trainable, read_annotations
from .findings import Findings
from .images import ImageEntry, compare_sizes, missing_files, step_of, stored_size
from .reading import find_annotations

EXAMPLES = 3  # names in a line
FEW = 10  # objects of a category
TURNED = ('turned_images', 'undecided_turns')  # kinds of findings
SMALL, LARGE = 32 ** 2, 96 ** 2  # COCO's limits of areas in pixels
ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89P': b'IEND'}  # bytes that a whole file ends with, by those that it begins with
TAIL = 64  # bytes in which the end is looked for


def check_coco(
        root: str,
        splits: Sequence[str] = ('train2017', 'val2017'),
        *,
        masks: bool = False,
        strict: bool = False,
        pixels: bool = True,
        decode: bool = False,
        limit: int | None = None,
) -> tuple[Report, list[Coco | None]]:
    """Check a data set in COCO's format; labels of all splits are those of the first.

    Args:
        root: The folder of the data set.
        splits: The splits, training first.
        masks: Whether each object needs a mask.
        strict: Whether objects and images that must be left out are an error.
        pixels: Whether to look at the files of the images, not only at the annotations.
        decode: Whether to decode all images; otherwise only files that seem to be cut.
        limit: Number of files of each split that are looked at, evenly spaced; None: all.

    Returns:
        The report, and the annotations of each split; None for those that can't be used.
    """
    report, read = Report(root, counted='objects'), []
    trained: Sequence[Category] | None = None
    names = [*dict.fromkeys(splits)]
    if len(names) < len(splits):
        report.findings.append(
            Finding(Level.WARNING, 'same_split', f'{names[0]}: training and validation are the same images'))
    for name in names:
        split = Split(name)
        coco = _read(split, report, masks=masks, strict=strict, trained=trained, pixels=pixels, limit=limit)
        if coco is not None:
            trained = trained or coco.categories
            _count(split, coco)
            report.findings += _few_objects(split)
            if pixels:
                report.findings += _look_at_files(split, coco.images, decode=decode, limit=limit)
        report.splits.append(split)
        read.append(coco)
    if pixels and len(read) == 2 and None not in read:
        report.findings += _duplicates(report.splits, read[0].images, read[1].images, limit=limit)
    return report, read


def _read(
        split: Split,
        report: Report,
        *,
        masks: bool,
        strict: bool,
        trained: Sequence[Category] | None,
        pixels: bool,
        limit: int | None,
) -> Coco | None:
    """Return the annotations of a split, and note faults; return None if they can't be used."""
    coco, findings = None, Findings('', strict)

    def find(images: list[ImageEntry]) -> None:
        split.total = len(images)
        missing = list(missing_files(images, report.title, split.name, findings.path)) if pixels else []
        if missing:
            report.findings.append(Finding(
                Level.ERROR, 'missing_files', f'{findings.path}: {len(missing)} of {len(images)} images have no file: '
                f'{listed(missing, EXAMPLES)}', tuple(missing)))

    try:
        findings.path = find_annotations(report.title, split.name)
        coco = read_annotations(findings.path, findings, masks=masks, trained=trained, prepare=find)
        if trained is None:
            check_trainable(coco)
        if pixels:
            compare_sizes(coco.images, findings, limit=limit)
    except (OSError, ValueError) as error:
        report.findings.append(Finding(Level.ERROR, 'coco', one_line(error, None)))
    report.findings += findings
    return coco


def _count(split: Split, coco: Coco) -> None:
    objects = [each for found in coco.objects.values() for each in found]
    trained = [each for each in objects if each.trained]
    labels, areas = Counter(each.label for each in trained), Counter(area_class(each.area) for each in trained)
    with_objects = sum(any(each.trained for each in found) for found in coco.objects.values())
    split.total = len(coco.images)
    split.classes = {name: labels[label] for label, name in enumerate(coco.unique_names, 1)}
    split.labels = Counter({label - 1: number for label, number in labels.items()})
    split.sizes = Counter((each.width, each.height) for each in coco.images if each.width and each.height)
    split.turned = sum(coco.findings.kinds[kind].count for kind in TURNED if kind in coco.findings)
    split.further = {
        'objects': len(trained),
        'crowds': sum(each.crowd for each in objects),
        'images without objects': split.total - with_objects,
        **{f'{name} objects': areas[name] for name in ('small', 'medium', 'large')},
    }


def area_class(area: float) -> str:
    """Return COCO's name for objects of an area in pixels."""
    return 'small' if area < SMALL else 'medium' if area < LARGE else 'large'


def _few_objects(split: Split) -> Iterator[Finding]:
    few = [name for name, count in split.classes.items() if 0 < count < FEW]
    if few:
        yield Finding(
            Level.WARNING, 'few_objects', f'{split.name}: {len(few)} categories have fewer than {FEW} objects: '
            f'{listed(few, EXAMPLES)}', tuple(few))


def _look_at_files(
        split: Split, images: Sequence[ImageEntry], *, decode: bool, limit: int | None) -> Iterator[Finding]:
    seen = images[::step_of(len(images), limit)]
    split.images = len(seen)
    split.unreadable = dict(unreadable_images(seen, decode=decode))
    split.faults = len(split.unreadable)
    if split.faults:
        yield of_single_images(
            split, 'unreadable', split.faults, 'cannot be read',
            [f'{name} ({reason})' for name, reason in split.unreadable.items()])


def unreadable_images(images: Sequence[ImageEntry], *, decode: bool = False) -> Iterator[tuple[str, str]]:
    """Yield names of images that can't be read, each with the reason.

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
            yield image.name, one_line(error, kind=True)


def _seems_cut(path: str) -> bool:
    """Return whether a file doesn't end as a whole file of its format does; False for unknown formats."""
    with open(path, 'rb') as file:
        begin = file.read(2)
        file.seek(max(0, os.path.getsize(path) - TAIL))
        return begin in ENDS and ENDS[begin] not in file.read()


def _duplicates(
        splits: Sequence[Split],
        train: Sequence[ImageEntry],
        validation: Sequence[ImageEntry],
        *,
        limit: int | None,
) -> Iterator[Finding]:
    found = find_duplicates(train, validation[::step_of(len(validation), limit)])
    if found:
        yield of_single_images(
            splits[1], 'leaks', len(found), f'are also in {splits[0].name}',
            [ours if ours == theirs else f'{ours} = {theirs}' for ours, theirs in found])


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
