"""Faults of annotation files that do not prevent training: counted, with the first examples."""
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..data.findings import Finding, Level

EXAMPLES = 3  # of each kind
LEFT_OUT = {  # kinds of objects and images that are not used, by name
    'boxes_without_area': 'boxes without area are left out',
    'boxes_not_finite': 'boxes that are not finite numbers are left out',
    'boxes_outside': 'boxes outside of their image are left out',
    'annotations_without_image': 'annotations of images that are not listed are left out',
    'broken_masks': 'objects whose mask is broken are left out of training and of the figures of masks',
    'ignored_objects': 'objects marked "ignore" are left out of training',
    'size_mismatches': 'images have another size than their annotations say and are left out',
}
COMPLETED = {  # kinds of faults that are mended while the file is read
    'boxes_beyond': 'boxes reach beyond their image and are cut at its edge',
    'boxes_computed': 'boxes are missing and are computed from the masks',
    'areas_computed': 'areas are missing or not positive, and are computed from the masks or boxes',
    'annotation_ids': 'annotation ids are missing, repeated or 0; they are numbered anew',
    'converted_ids': 'ids of images or categories are not whole numbers; they are numbered',
    'repeated_images': 'images are listed again under the same id and are used once',
    'repeated_files': 'images are listed again under another id; each is used with its own objects',
    'sizes_read': 'images have no height or width; they are read from the files',
    'names_made': 'categories have no name; they are called by their ids',
    'categories_listed': 'categories are not listed; they are those of the annotations',
    'unused_categories': 'categories have no objects',
    'unknown_unused': 'categories are not among the trained ones, and have no objects',
    'lacking_categories': 'trained categories are not in this file',
    'turned_images': 'images are turned upright by their EXIF rotation, as their annotations say',
    'undecided_turns': 'images are turned upright by their EXIF rotation; their annotated size fits both ways',
    'no_objects': 'images have no object at all that is evaluated, so that all figures are -1',
    'not_exhaustive': 'images are annotated for some categories only (as in LVIS); COCO\'s figures count other '
                      'detections in them as wrong',
}
WARNED = {*LEFT_OUT, 'boxes_beyond', 'categories_listed', 'names_made', 'unused_categories', 'unknown_unused',
          'lacking_categories', 'undecided_turns', 'not_exhaustive', 'repeated_files', 'no_objects'}


@dataclass
class Faults:
    """Faults of one kind.

    Args:
        count: Their number.
        examples: The first ones, as 'annotation 5' or in more words.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """Everything that was found in one file.

    Args:
        path: The file.
        strict: Whether objects or images that must be left out are an error.
        kinds: The findings by kind.
    """

    path: str
    strict: bool = False
    kinds: dict[str, Faults] = field(default_factory=dict)

    def add(self, kind: str, example: str, problem: str = '') -> None:
        """Count a fault.

        Args:
            kind: A key of LEFT_OUT or COMPLETED.
            example: Where it is, such as 'annotation 5'.
            problem: What is wrong there, for an error.

        Raises:
            ValueError: The file is read strictly, and the kind is in LEFT_OUT.
        """
        if self.strict and kind in LEFT_OUT:
            raise ValueError(f'{self.path}: {example} {problem or "is wrong"} (--strict-annotations)')
        found = self.kinds.setdefault(kind, Faults())
        found.count += 1
        if len(found.examples) < EXAMPLES:
            found.examples.append(example)

    def __contains__(self, kind: str) -> bool:
        return kind in self.kinds

    def __iter__(self) -> Iterator[Finding]:
        """Yield a finding for each kind, with a line that counts and names."""
        for kind, found in self.kinds.items():
            more = ', ...' if found.count > len(found.examples) else ''
            text = {**LEFT_OUT, **COMPLETED}[kind]
            yield Finding(
                Level.WARNING if kind in WARNED else Level.NOTE, kind,
                f'{self.path}: {found.count:,} {text} ({", ".join(found.examples)}{more})', tuple(found.examples))
