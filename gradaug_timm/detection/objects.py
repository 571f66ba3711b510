"""Objects of an annotation file, completed and checked one after the other."""
import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torchvision.ops import box_convert, box_iou

from .findings import Findings
from .images import ImageEntry
from .reading import Annotation
from .segmentations import Segmentation, mask_area, mask_box, read_segmentation
from .values import finite, is_set, key_of

THIN = 0.01  # pixels: a side below this vanishes where boxes are rounded to 32 bits
MARGIN = 1.  # pixels that a box may reach beyond its image, by the rounding of tools
CORNERS = 0.2  # share of boxes beyond their images from which they may be corners
COMPARED = 200  # boxes that are compared with polygons
OVERLAP = 0.3  # intersection over union of a box and its mask, at least; 1/7 if boxes begin at the centre
Box = Sequence[float]  # x, y, width and height


@dataclass(slots=True)
class CocoObject:
    """An object.

    Args:
        label: The label of its category, from 1 on.
        box: x, y, width and height in pixels.
        area: Its area in pixels.
        crowd: Whether it is a group of objects that evaluation ignores.
        segmentation: Its mask, if there is one.
        trained: Whether it is trained on.
    """

    label: int
    box: Box
    area: float
    crowd: bool
    segmentation: Segmentation | None
    trained: bool


class ObjectReader:
    """A reader of annotations that notes what it completes and leaves out.

    Args:
        images: The images, with sizes.
        places: The place of each image by its id.
        labels: Labels by the id of the category.
        masks: Whether each object needs a mask.
        findings: Where faults are noted.
    """

    def __init__(
            self,
            images: Sequence[ImageEntry],
            places: dict[int | str, int],
            labels: dict[int | str, int],
            *,
            masks: bool,
            findings: Findings,
    ):
        self._images, self._places, self._labels = images, places, labels
        self._masks, self._findings = masks, findings
        self._boxes = self._beyond = self._corners = self._fractions = 0
        self._first_beyond = ''

    def read(self, entries: list[Annotation]) -> dict[int, list[CocoObject]]:
        """Return the objects by the place of their image; the list is emptied.

        Raises:
            ValueError: Annotations are wrong, so that training on them would be.
        """
        objects: dict[int, list[CocoObject]] = {}
        note_ids(entries, self._findings)
        entries.reverse()
        number = 0
        while entries:
            entry = entries.pop()
            number += 1
            place = self._places.get(key_of(entry.image_id))
            found = self._read(entry, place, number)
            if found is not None:
                objects.setdefault(place, []).append(found)
        self._check_form()
        self._check_masks(objects)
        return objects

    def _read(self, entry: Annotation, place: int | None, number: int) -> CocoObject | None:
        name = name_of(entry, number)
        if place is None:
            self._findings.add(
                'annotations_without_image', name, f'is of image {entry.image_id}, which is not listed')
            return None
        label = self._labels.get(key_of(entry.category_id))
        if label is None:
            raise self._error(name, f'has category {entry.category_id}, which is not listed')
        image = self._images[place]
        crowd = is_set(entry.iscrowd)
        trained = not crowd
        segmentation = None
        try:
            segmentation = read_segmentation(entry.segmentation, image.height, image.width)
        except ValueError as error:
            if self._masks:
                self._findings.add('broken_masks', name, str(error))
                trained = False
        else:
            if self._masks and segmentation is None and not crowd:
                raise self._error(name, 'has no mask; use --detector faster_rcnn to train on boxes only')
        box = self._box(entry, name, segmentation, image)
        if box is None:
            return None
        trained = self._has_place(box, entry, image, name, crowd) and trained
        if trained and is_set(entry.ignore):
            self._findings.add('ignored_objects', name, 'is marked "ignore"')
            trained = False
        return CocoObject(label, box, self._area(entry, name, box, segmentation, image), crowd, segmentation, trained)

    def _box(self, entry: Annotation, name: str, segmentation: Segmentation | None, image: ImageEntry) -> Box | None:
        given = entry.bbox
        if not given and segmentation is not None:
            self._findings.add('boxes_computed', name)
            return mask_box(segmentation, image.height, image.width)
        box = given
        try:
            if not isinstance(given, array):
                box = [*map(float, () if isinstance(given, str) else given)]
            x, y, w, h = box
        except OverflowError:
            x = math.nan
        except (TypeError, ValueError):
            if isinstance(given, list) and len(given) == 4 and None in given:
                x = math.nan
            elif isinstance(given, (list, array)) and len(given) == 5:
                raise self._error(
                    name, f'has a box of 5 numbers, {_shown(given)}; rotated boxes are not supported') from None
            else:
                raise self._error(name, f'has no box [x, y, width, height]: {_shown(given)}') from None
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(w) and math.isfinite(h)):
            self._findings.add('boxes_not_finite', name, f'has a box that is not of finite numbers: {_shown(given)}')
            return None
        return box

    def _has_place(self, box: Box, entry: Annotation, image: ImageEntry, name: str, crowd: bool) -> bool:
        """Return whether a box has an area within its image, and count the forms that it may have."""
        x, y, w, h = box
        if not (w >= THIN and h >= THIN):
            if not crowd:
                self._findings.add('boxes_without_area', name, f'has a box of no area: {_shown(entry.bbox)}')
            return False
        width, height = image.width or math.inf, image.height or math.inf
        self._boxes += 1
        self._corners += w > x and h > y and w <= width + MARGIN and h <= height + MARGIN
        self._fractions += x <= 1 and y <= 1 and w <= 1 and h <= 1
        if x > width - THIN or y > height - THIN or x + w < THIN or y + h < THIN:
            self._note_beyond(name)
            self._findings.add('boxes_outside', name, f'has a box outside of its image: {_shown(entry.bbox)}')
            return False
        if x < -MARGIN or y < -MARGIN or x + w > width + MARGIN or y + h > height + MARGIN:
            self._note_beyond(name)
            self._findings.add('boxes_beyond', name)
        return True

    def _note_beyond(self, name: str) -> None:
        self._beyond += 1
        self._first_beyond = self._first_beyond or name

    def _area(
            self,
            entry: Annotation,
            name: str,
            box: Box,
            segmentation: Segmentation | None,
            image: ImageEntry,
    ) -> float:
        area = finite(entry.area)
        if area is not None and (area > 0 or not box[2] * box[3] > 0):
            return area
        self._findings.add('areas_computed', name)
        if segmentation is not None and image.width and image.height:
            return mask_area(segmentation, image.height, image.width)
        return box[2] * box[3]

    def _check_form(self) -> None:
        """Raise ValueError if boxes are corners or fractions."""
        path, boxes = self._findings.path, self._boxes
        if boxes and self._fractions == boxes:
            raise ValueError(f'{path}: all {boxes} boxes are within 1 x 1 pixels; they seem to be fractions of the '
                             'image. COCO\'s boxes are [x, y, width, height] in pixels')
        if self._beyond and self._corners == boxes and self._beyond >= CORNERS * boxes:
            raise ValueError(f'{path}: {self._beyond} of {boxes} boxes reach beyond their images, the first is of '
                             f'{self._first_beyond}; they seem to be corners [x1, y1, x2, y2]. COCO\'s boxes are '
                             '[x, y, width, height]')

    def _check_masks(self, objects: dict[int, list[CocoObject]]) -> None:
        """Raise ValueError if boxes are not where the polygons of the first objects are."""
        first = [*islice(((place, each) for place, found in objects.items() for each in found
                          if each.trained and isinstance(each.segmentation, list)), COMPARED)]
        boxes = _corners([each.box for _, each in first])
        masks = _corners([mask_box(each.segmentation, 0, 0) for _, each in first])
        apart = (box_iou(boxes, masks).diagonal() < OVERLAP).nonzero().flatten().tolist()
        if 2 * len(apart) > len(first):
            place, each = first[apart[0]]
            raise ValueError(
                f'{self._findings.path}: {len(apart)} of {len(first)} boxes are not where their masks are, the first '
                f'is of {self._images[place].name}: box {_shown(each.box)}, mask within '
                f'{_shown(mask_box(each.segmentation, 0, 0))}. COCO\'s boxes are [x, y, width, height], and polygons '
                '[x1, y1, x2, y2, ...], all in pixels')

    def _error(self, name: str, problem: str) -> ValueError:
        return ValueError(f'{self._findings.path}: {name} {problem}')


def name_of(entry: Annotation, number: int) -> str:
    """Return an annotation's name in messages: its id, or its place in the file if it has none."""
    return f'annotation {f"number {number}" if entry.id is None else entry.id}'


def note_ids(entries: Sequence[Annotation], findings: Findings) -> None:
    """Note annotations whose id is missing, repeated or 0."""
    seen = set()
    for number, entry in enumerate(entries, 1):
        key = key_of(entry.id)
        if not key or key in seen:
            findings.add('annotation_ids', name_of(entry, number))
        seen.add(key)


def _corners(boxes: Sequence[Box]) -> torch.Tensor:
    return box_convert(torch.tensor([[*box] for box in boxes]).reshape(-1, 4), 'xywh', 'xyxy')


def _shown(box: Any) -> str:
    """Return a box as text."""
    return f'[{", ".join(f"{value:g}" for value in box)}]' if isinstance(box, (array, tuple)) else str(box)


def counts_by_key(entries: list[Annotation]) -> Counter:
    """Return the number of annotations by the id of the category."""
    return Counter(key_of(entry.category_id) for entry in entries)
