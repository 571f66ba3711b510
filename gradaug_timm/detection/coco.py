"""Images with boxes and masks in COCO's format, checked before anything is trained on them."""
import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from ..data.findings import Level
from .categories import Category, compare, labels_by_key, read_categories
from .findings import Findings
from .images import ImageEntry, check_shared_files, compare_sizes, fill_sizes, find_files, open_image, read_images
from .objects import MARGIN, CocoObject, ObjectReader, counts_by_key
from .reading import find_annotations, read_content
from .rescale import Target
from .segmentations import decode_mask, plain
from .values import key_of

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Coco:
    """A checked file of annotations.

    Args:
        path: The file.
        images: The images.
        objects: The objects of each image by the image's place, crowds and others that are not trained on included.
        categories: The categories in the order of labels, the first of label 1.
        keys: The id of each label in this file; None for a label that it lacks.
        findings: What was completed and left out.
    """

    path: str
    images: list[ImageEntry]
    objects: dict[int, list[CocoObject]] = field(repr=False)
    categories: tuple[Category, ...]
    keys: list[int | str | None]
    findings: Findings = field(repr=False)

    @property
    def names(self) -> list[str]:
        """The names of the categories, the first of label 1."""
        return [category.name for category in self.categories]

    @property
    def unique_names(self) -> list[str]:
        """The names of the categories; those that several have, with their ids."""
        times = Counter(self.names)
        return [each.name if times[each.name] == 1 else f'{each.name} ({each.key})' for each in self.categories]

    def trained(self, place: int) -> list[CocoObject]:
        """Return the objects of an image that are trained on."""
        return [each for each in self.objects.get(place, ()) if each.trained]

    def log_findings(self) -> None:
        """Log what was completed and left out, one line for each kind."""
        for each in self.findings:
            _logger.log(logging.WARNING if each.level is Level.WARNING else logging.INFO, each.text)


def read_coco(
        root: str,
        split: str,
        *,
        masks: bool,
        trained: Sequence[Category] | None = None,
        strict: bool = False,
) -> Coco:
    """Read and check the annotations of a split, `annotations/instances_SPLIT.json` in COCO's layout.

    What the file lacks is completed: sizes, ids, areas, names. Objects without area are left out of training.

    Args:
        root: The folder of the data set.
        split: The split, such as 'train2017'.
        masks: Whether each object needs a mask.
        trained: The categories in the order of labels; None: those of the file, by ascending id.
        strict: Whether objects and images that must be left out are an error.

    Raises:
        ValueError: Files are missing or broken; there are no images; an object has no mask, no box, or a category that
            is not listed or not trained; boxes or sizes do not fit the images.
    """
    path = find_annotations(root, split)
    findings = Findings(path, strict)
    coco = read_annotations(
        path, findings, masks=masks, trained=trained, prepare=lambda images: find_files(images, root, split, path))
    compare_sizes(coco.images, findings)
    return coco


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep Python from looking for garbage among millions of objects that are just being made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@without_collection()
def read_annotations(
        path: str,
        findings: Findings,
        *,
        masks: bool,
        trained: Sequence[Category] | None = None,
        prepare: Callable[[list[ImageEntry]], None] = lambda images: None,
) -> Coco:
    """Read and check a file of annotations.

    Args:
        path: The file.
        findings: Where faults are noted.
        masks: Whether each object needs a mask.
        trained: The categories in the order of labels; None: those of the file, by ascending id.
        prepare: Finds the files of the images.

    Raises:
        ValueError: As for `read_coco`.
    """
    content = read_content(path)
    counts, listed = counts_by_key(content['annotations']), len(content['annotations'])
    own = read_categories(content, findings)
    images, places = read_images(content.pop('images'), findings)
    if not images:
        raise ValueError(f'{path} lists no images')
    prepare(images)
    check_shared_files(images, findings)
    fill_sizes(images, findings)
    labels = labels_by_key(own, trained)
    if trained is None:
        for each in own:
            if not counts[each.key]:
                findings.add('unused_categories', each.name)
    else:
        compare(own, trained, labels, counts, findings)
    objects = ObjectReader(images, places, labels, masks=masks, findings=findings).read(content['annotations'])
    if listed and 'annotations_without_image' in findings:
        if findings.kinds['annotations_without_image'].count == listed:
            raise ValueError(f'{path}: none of the {listed} annotations is of an image that is listed')
    if trained is not None and all(each.crowd for found in objects.values() for each in found):
        for image in images:
            findings.add('no_objects', image.name)
    categories = tuple(own if trained is None else trained)
    given = {key_of(entry.get('id')): entry.get('id') for entry in content['categories']}
    by_label = {label: given.get(key, key) for key, label in labels.items()}
    return Coco(path, images, objects, categories,
                [by_label.get(label) for label in range(1, len(categories) + 1)], findings)


def check_trainable(coco: Coco) -> None:
    """Raise ValueError if there is no object to train on."""
    objects = [each for found in coco.objects.values() for each in found]
    if not any(each.trained for each in objects):
        crowds = sum(each.crowd for each in objects)
        raise ValueError(f'{coco.path} has no object to train on: of {len(objects)} annotations that can be used, '
                         f'{crowds} are crowds (iscrowd 1)')


def truth_of(coco: Coco, places: Sequence[int]) -> dict:
    """Return annotations in the form in which evaluators read them, with places of images and labels as ids.

    Args:
        coco: The annotations.
        places: The places of the images to evaluate.
    """
    annotations: list[dict] = []
    for place in places:
        for each in coco.objects.get(place, ()):
            entry = {'id': len(annotations) + 1, 'image_id': place, 'category_id': each.label, 'bbox': [*each.box],
                     'area': each.area, 'iscrowd': int(each.crowd)}
            if each.segmentation is not None:
                entry['segmentation'] = plain(each.segmentation)
            elif each.crowd:
                x, y, w, h = each.box
                entry['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(entry)
    return {
        'images': [{'id': place, 'width': coco.images[place].width, 'height': coco.images[place].height}
                   for place in places],
        'annotations': annotations,
        'categories': [{'id': label, 'name': name} for label, name in enumerate(coco.names, 1)],
    }


def results_of(coco: Coco, results: list[dict]) -> list[dict]:
    """Return detections with the ids of the file in place of places and labels; without categories that it lacks."""
    return [{**entry, 'image_id': coco.images[entry['image_id']].key,
             'category_id': coco.keys[entry['category_id'] - 1]}
            for entry in results if coco.keys[entry['category_id'] - 1] is not None]


class CocoImages(Dataset):
    """A data set of images [3, H, W] in 0 to 1, and of their objects as torchvision's detectors take them.

    Args:
        coco: The annotations.
        masks: Whether objects have masks.
        transform: Changes image and objects together, as torchvision's transforms v2 do.
        only_with_objects: Whether images without objects are left out.
    """

    def __init__(
            self,
            coco: Coco,
            *,
            masks: bool,
            transform: Callable | None = None,
            only_with_objects: bool = False,
    ):
        self.coco, self.masks, self.transform = coco, masks, transform
        self.places = [place for place, entry in enumerate(coco.images)
                       if entry.usable and (not only_with_objects or coco.trained(place))]

    def __len__(self) -> int:
        return len(self.places)

    def stands(self) -> list[bool]:
        """Return whether each image is in portrait format."""
        entries = [self.coco.images[place] for place in self.places]
        return [entry.height > entry.width for entry in entries]

    def filename(self, index: int, **_) -> str:
        """Return the path of an image."""
        return self.coco.images[self.places[index]].path

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        place = self.places[index]
        image = pil_to_tensor(open_image(self.coco.images[place]))
        target = self._target(place, tuple(image.shape[-2:]))
        if self.transform is not None:
            image, target = self.transform(tv_tensors.Image(image), target)
        plain = {name: value.as_subclass(torch.Tensor) for name, value in target.items()}
        return image.as_subclass(torch.Tensor).float() / 255, plain

    def _target(self, place: int, size: tuple[int, int]) -> Target:
        objects = self.coco.trained(place)
        boxes = torch.tensor([[*each.box] for each in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        target = {
            'boxes': tv_tensors.BoundingBoxes(_cut(boxes, size), format='XYXY', canvas_size=size),
            'labels': torch.tensor([each.label for each in objects], dtype=torch.int64),
            'image_id': torch.tensor(place),
        }
        if self.masks:
            masks = [decode_mask(each.segmentation, size) for each in objects]
            target['masks'] = tv_tensors.Mask(
                torch.from_numpy(np.stack(masks)) if masks else torch.zeros((0, *size), dtype=torch.uint8))
        return target


def _cut(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut boxes (x1, y1, x2, y2) that reach more than the rounding of tools beyond their image at its edge."""
    limits = boxes.new_tensor([size[1], size[0], size[1], size[0]])
    beyond = ((boxes < -MARGIN) | (boxes > limits + MARGIN)).any(dim=1, keepdim=True)
    return torch.where(beyond, torch.minimum(boxes.clamp(min=0), limits), boxes)
