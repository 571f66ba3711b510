"""Annotation files as they lie on the disk: where they are, and their JSON in little memory."""
import gc
import json
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FILES = (  # of COCO, CVAT; DETR's derivatives; Roboflow; LVIS, FiftyOne, Label Studio
    'annotations/instances_{}.json', 'annotations/{}.json', '{}/_annotations.coco.json', '{}.json')
PARTS = ('images', 'annotations')
KEPT = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'ignore', 'segmentation', 'category_name')
NOT_OBJECTS = frozenset({'caption', 'segments_info', 'score', 'file_name'})  # keys of other entries with an image's id
OTHER_FORMATS = {  # by a key of the file
    'shapes': 'a file of labelme; convert it, for example with labelme2coco',
    '_via_img_metadata': 'a project of VIA; export it in COCO\'s format',
    'videos': 'a file of videos (YouTube-VIS); only images are supported',
}
OTHER_LISTS = {  # by a key of the first entry
    'score': 'a list of detections, not of annotations',
    'labels': 'a list of labels by frame (BDD100K, Scalabel); convert it to COCO\'s format first',
    'data': 'an export of Label Studio in its own format; export it as COCO',
    'annotations': 'an export of Label Studio in its own format; export it as COCO',
}
OTHER_ANNOTATIONS = {  # by a key of the first annotation
    'segments_info': 'a panoptic file; use the file of instances',
    'caption': 'a file of captions; use the file of instances',
}


def find_annotations(root: str, split: str) -> str:
    """Return the path of a split's annotations.

    Raises:
        ValueError: There is none.
    """
    paths = [os.path.join(root, form.format(split)) for form in FILES]
    for path in paths:
        if os.path.isfile(path):
            return path
    raise ValueError(f'--data-dir: {paths[0]} is missing (COCO\'s layout: annotations/instances_SPLIT.json and a '
                     f'folder SPLIT of images; also {", ".join(form.format("SPLIT") for form in FILES[1:])})')


def read_content(path: str) -> dict:
    """Read the JSON of a file of annotations; polygons are arrays, and unused fields of annotations are left out.

    Raises:
        ValueError: The file is broken, or not in COCO's format.
    """
    try:
        with _without_collection(), open(path, encoding='utf-8-sig') as file:
            content = json.load(file, object_hook=_compact)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is broken: {error}') from None
    except OSError as error:
        raise ValueError(f'{path} can\'t be read: {error.strerror or error}') from None
    other = _other_format(content)
    if other:
        raise ValueError(f'{path} is {other}')
    missing = [part for part in PARTS if not isinstance(content, dict) or not isinstance(content.get(part), list)]
    if missing:
        hint = '; test files of COCO have none' if missing == ['annotations'] else ''
        raise ValueError(f'{path} is not in COCO\'s format: it has no list of {", ".join(missing)}{hint}')
    if not isinstance(content.setdefault('categories', []), list):
        raise ValueError(f'{path} is not in COCO\'s format: categories is not a list')
    for part in (*PARTS, 'categories'):
        for number, entry in enumerate(content[part]):
            if not isinstance(entry, dict):
                raise ValueError(f'{path}: entry {number} of {part} is not an object: {str(entry)[:50]}')
    return content


def _compact(entry: dict) -> dict:
    """Return an annotation without unused fields, with arrays for polygons; other objects as they are."""
    if 'image_id' not in entry or not NOT_OBJECTS.isdisjoint(entry):
        return entry
    kept = {name: entry[name] for name in KEPT if name in entry}
    polygons = kept.get('segmentation')
    if isinstance(polygons, list):
        kept['segmentation'] = [_as_array(each) for each in polygons]
    return kept


def _as_array(value: Any) -> Any:
    """Return a list of numbers as an array, anything else as it is."""
    if isinstance(value, list):
        try:
            return array('d', value)
        except TypeError:
            pass
    return value


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python from looking for garbage among millions of objects that are just being made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _other_format(content: Any) -> str | None:
    """Return what a file is that isn't in COCO's format of instances; None if it may be."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict):
        return next((text for key, text in OTHER_LISTS.items() if key in first), None)
    if not isinstance(content, dict):
        return None
    if not isinstance(content.get('images'), list):
        return next((text for key, text in OTHER_FORMATS.items() if key in content), None)
    annotations = content.get('annotations')
    if isinstance(annotations, list) and annotations and isinstance(annotations[0], dict):
        return next((text for key, text in OTHER_ANNOTATIONS.items() if key in annotations[0]), None)
    return None
