"""Images with boxes and masks in COCO's format, checked before anything is trained on them."""
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from .rescale import Target

PARTS = ('images', 'annotations', 'categories')


@dataclass(frozen=True)
class Coco:
    """A checked file of annotations.

    Args:
        path: The file.
        folder: The folder of its images.
        images: Entries of the images.
        annotations: The objects of each image by its id, without crowds.
        categories: COCO's ids, ascending; a label is the place of its id here, from 1 on.
        names: Names of the categories.
    """

    path: str
    folder: str
    images: list[dict]
    annotations: dict[int, list[dict]] = field(repr=False)
    categories: list[int]
    names: list[str]


def read_coco(root: str, split: str, *, masks: bool) -> Coco:
    """Read `root/annotations/instances_SPLIT.json`, with images in `root/SPLIT`.

    Args:
        root: The folder of the data set.
        split: The split, such as 'train2017'.
        masks: Whether each object needs a mask.

    Raises:
        ValueError: Files are missing or broken; an object has no mask, no area, or a category or
            image that is not listed.
    """
    path = os.path.join(root, 'annotations', f'instances_{split}.json')
    content = _read(path)
    categories = sorted(entry['id'] for entry in content['categories'])
    names = {entry['id']: entry['name'] for entry in content['categories']}
    known = {entry['id'] for entry in content['images']}
    annotations: dict[int, list[dict]] = {}
    for entry in content['annotations']:
        problem = _problem(entry, known, names, masks)
        if problem:
            raise ValueError(f'{path}: annotation {entry.get("id")} {problem}')
        if not entry.get('iscrowd'):
            annotations.setdefault(entry['image_id'], []).append(entry)
    folder = os.path.join(root, split)
    missing = [entry['file_name'] for entry in content['images']
               if not os.path.isfile(os.path.join(folder, entry['file_name']))]
    if missing:
        raise ValueError(
            f'{folder}: {len(missing)} of {len(known)} images that {path} lists are missing, the first is {missing[0]}')
    return Coco(path, folder, content['images'], annotations, categories, [names[number] for number in categories])


def _read(path: str) -> dict:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise ValueError(f'--data-dir: {path} is missing (COCO\'s layout: annotations/instances_SPLIT.json and a '
                         'folder SPLIT of images)') from None
    except ValueError as error:
        raise ValueError(f'{path} is broken: {error}') from None
    missing = [part for part in PARTS if not isinstance(content, dict) or not isinstance(content.get(part), list)]
    if missing:
        raise ValueError(f'{path} is not in COCO\'s format: it has no list of {", ".join(missing)}')
    if not content['categories']:
        raise ValueError(f'{path} has no categories')
    twice = [number for number, times in Counter(entry['id'] for entry in content['categories']).items() if times > 1]
    if twice:
        raise ValueError(f'{path} has category {twice[0]} twice')
    return content


def _problem(entry: dict, images: set[int], categories: dict[int, str], masks: bool) -> str | None:
    """Describe what is wrong with an annotation."""
    if entry.get('image_id') not in images:
        return f'is of image {entry.get("image_id")}, which is not listed'
    if entry.get('category_id') not in categories:
        return f'has category {entry.get("category_id")}, which is not listed'
    box = entry.get('bbox')
    if not isinstance(box, list) or len(box) != 4:
        return f'has no box [x, y, width, height]: {box}'
    if not entry.get('iscrowd') and not (box[2] > 0 and box[3] > 0):
        return f'has a box of no area: {box}'
    if masks and not entry.get('segmentation'):
        return 'has no mask; use --detector faster_rcnn to train on boxes only'
    return None


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
        self.images = [entry for entry in coco.images if not only_with_objects or entry['id'] in coco.annotations]
        self._labels = {number: label for label, number in enumerate(coco.categories, 1)}

    def __len__(self) -> int:
        return len(self.images)

    def stands(self) -> list[bool]:
        """Return whether each image is in portrait format, by the annotations; False if they do not say."""
        return [(entry.get('height') or 0) > (entry.get('width') or math.inf) for entry in self.images]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        entry = self.images[index]
        with Image.open(os.path.join(self.coco.folder, entry['file_name'])) as file:
            image = pil_to_tensor(file.convert('RGB'))
        target = self._target(entry, tuple(image.shape[-2:]))
        if self.transform is not None:
            image, target = self.transform(tv_tensors.Image(image), target)
        plain = {name: value.as_subclass(torch.Tensor) for name, value in target.items()}
        return image.as_subclass(torch.Tensor).float() / 255, plain

    def _target(self, entry: dict, size: tuple[int, int]) -> Target:
        objects = self.coco.annotations.get(entry['id'], [])
        boxes = torch.tensor([each['bbox'] for each in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        target = {
            'boxes': tv_tensors.BoundingBoxes(boxes, format='XYXY', canvas_size=size),
            'labels': torch.tensor([self._labels[each['category_id']] for each in objects], dtype=torch.int64),
            'image_id': torch.tensor(entry['id']),
        }
        if self.masks:
            masks = [decode_mask(each['segmentation'], size) for each in objects]
            target['masks'] = tv_tensors.Mask(
                torch.from_numpy(np.stack(masks)) if masks else torch.zeros((0, *size), dtype=torch.uint8))
        return target


def decode_mask(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    """Decode the mask [H, W] of 0 and 1 that polygons or a run-length code describe."""
    from faster_coco_eval.core import mask as codes
    if isinstance(segmentation, list):
        segmentation = codes.merge(codes.frPyObjects(segmentation, *size))
    elif isinstance(segmentation['counts'], list):
        segmentation = codes.frPyObjects(segmentation, *size)
    return codes.decode(segmentation)
