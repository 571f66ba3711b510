"""What is known about the images and labels of a split."""
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

from ..data.class_names import title_of
from .samples import Sample

DRAWN = 6  # images of each class in the picture
NAMED = 100  # unreadable images and wrong labels whose names are kept


class Entry(NamedTuple):
    """An image with a content: its name, its labels, and whether the digest is one of the whole content."""

    name: str
    labels: tuple[int, ...]
    whole: bool


@dataclass
class Split:
    """Counts of a split.

    Args:
        name: The name, such as 'train'.
        images: Number of images that were looked at.
        total: Number of images of the split.
        classes: Number of images of each class, or of objects, by name, in the order of labels.
        sizes: Number of images of each width and height.
        modes: Number of images of each mode of PIL.
        formats: Number of images of each format.
        skipped: Number of files of each extension that are not read.
        unreadable: Reasons by image, for the first unreadable ones.
        faults: Number of unreadable images.
        turned: Number of images with an EXIF rotation.
        labels: Number of images of each label.
        wrong_labels: The first labels that are not whole numbers from 0 on, by image.
        examples: Indices of the first images of each label.
        contents: The images of each content, by its digest.
        further: Further counts by what is counted, such as 'crowds'.
    """

    name: str
    images: int = 0
    total: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    faults: int = 0
    turned: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    wrong_labels: dict[str, str] = field(default_factory=dict)
    examples: dict[int, list[int]] = field(default_factory=dict, repr=False)
    contents: dict[bytes, list[Entry]] = field(default_factory=dict, repr=False)
    further: dict[str, int] = field(default_factory=dict)

    @property
    def label_range(self) -> tuple[int, int] | None:
        """The lowest and the highest label."""
        return (min(self.labels), max(self.labels)) if self.labels else None

    def as_dict(self) -> dict[str, Any]:
        """Return the counts in the form of JSON."""
        return {
            'images': self.total,
            'looked_at': self.images,
            'classes': self.classes,
            'label_range': self.label_range,
            'unreadable': self.faults,
            'unreadable_images': self.unreadable,
            'skipped_files': dict(self.skipped),
            'wrong_labels': self.wrong_labels,
            'sizes': {f'{width}x{height}': number for (width, height), number in self.sizes.most_common()},
            'modes': dict(self.modes),
            'formats': dict(self.formats),
            'exif_rotations': self.turned,
            **{name.replace(' ', '_'): number for name, number in self.further.items()},
        }


def count_samples(
        name: str,
        samples: Iterable[Sample],
        *,
        total: int | None = None,
        names: Sequence[str] | None = None,
        dense: bool = False,
) -> Split:
    """Return the counts of a split.

    Args:
        name: Its name.
        samples: Its samples.
        total: Number of images of the split; None: of `samples`.
        names: Names of the classes.
        dense: Whether labels are vectors of 0 and 1.
    """
    split = Split(name)
    for sample in samples:
        split.images += 1
        facts = sample.facts
        if facts.problem:
            split.faults += 1
            if len(split.unreadable) < NAMED:
                split.unreadable[sample.name] = facts.problem
            continue
        labels = _labels(sample.label, dense)
        if labels is None:
            if len(split.wrong_labels) < NAMED:
                split.wrong_labels[sample.name] = repr(sample.label)[:60]
            labels = ()
        split.labels.update(labels)
        for label in labels:
            if len(split.examples.setdefault(label, [])) < DRAWN:
                split.examples[label].append(sample.index)
        split.sizes[facts.size] += 1
        split.modes[facts.mode] += 1
        split.formats[facts.format or 'pixels'] += 1
        split.turned += facts.turned
        split.contents.setdefault(facts.digest, []).append(Entry(sample.name, labels, facts.whole))
    split.total = split.images if total is None else total
    every = {*range(len(names or ())), *split.labels}
    split.classes = {title_of(label, names): split.labels[label] for label in sorted(every)}
    return split


def _labels(label: Any, dense: bool) -> tuple[int, ...] | None:
    """Return the labels of an image; None if they are no whole numbers from 0 on."""
    if hasattr(label, 'tolist'):
        label = label.tolist()
    if isinstance(label, (list, tuple)):
        if dense:
            return tuple(place for place, value in enumerate(label) if value)
        found = [_labels(each, False) for each in label]
        return None if None in found else tuple(each for some in found for each in some or ())
    usable = isinstance(label, Integral) and not isinstance(label, bool) and int(label) >= 0
    return (int(label),) if usable else None
