"""Annotation files as they lie on the disk: where they are, and whether they are in COCO's format."""
import glob
import os
from array import array
from typing import Any, NamedTuple

from ..data.class_names import listed
from .json_lists import load_json

FILES = (  # of COCO, CVAT; DETR's derivatives; Roboflow; LVIS, FiftyOne, Label Studio
    'annotations/instances_{}.json', 'annotations/{}.json', '{}/_annotations.coco.json', '{}.json')
PARTS = ('images', 'annotations')
IMAGE_FIELDS = ('id', 'file_name', 'coco_url', 'width', 'height', 'not_exhaustive_category_ids', 'segments_info')
OTHER_FORMATS = {  # by a key of the file
    'shapes': 'a file of labelme; convert it, for example with labelme2coco',
    '_via_img_metadata': 'a project of VIA; export it in COCO\'s format',
    'videos': 'a file of videos (YouTube-VIS); only images are supported',
}
OTHER_LISTS = {  # by a key of the first entry
    'labels': 'a list of labels by frame (BDD100K, Scalabel); convert it to COCO\'s format first',
    'data': 'an export of Label Studio in its own format; export it as COCO',
    'annotations': 'an export of Label Studio in its own format; export it as COCO',
}
OTHER_ANNOTATIONS = {  # by a key of the first annotation
    'segments_info': 'a panoptic file; use the file of instances',
    'caption': 'a file of captions; use the file of instances',
}


class Annotation(NamedTuple):
    """The fields of an annotation, as they are in the file; None for those that it lacks."""

    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    area: Any
    iscrowd: Any
    ignore: Any
    segmentation: Any
    category_name: Any


def find_annotations(root: str, split: str) -> str:
    """Return the path of a split's annotations.

    Raises:
        ValueError: There is none.
    """
    paths = [os.path.join(root, form.format(split)) for form in FILES]
    for path in paths:
        if os.path.isfile(path):
            return path
    if not os.path.isdir(root):
        raise ValueError(f'--data-dir {root} is not a folder; give the folder of a data set in COCO\'s format')
    found = splits_in(root)
    raise ValueError(f'--data-dir: {paths[0]} is missing (COCO\'s layout: annotations/instances_SPLIT.json and a '
                     f'folder SPLIT of images; also {", ".join(form.format("SPLIT") for form in FILES[1:])})'
                     f'{f"; the splits there are {listed(found)}" if found else ""}')


def splits_in(root: str) -> list[str]:
    """Return the splits that have annotations in the folder of a data set."""
    splits: dict[str, str] = {}
    for form in FILES:
        before, _, after = os.path.join(root, form).rpartition('{}')
        for path in sorted(glob.glob(f'{glob.escape(before)}*{after}')):
            splits.setdefault(path, path[len(before):-len(after)])
    return [*splits.values()]


def read_content(path: str) -> dict:
    """Read the JSON of a file of annotations; polygons are arrays, and unused fields of annotations are left out.

    Raises:
        ValueError: The file is broken, or not in COCO's format.
    """
    try:
        content = load_json(path, _compact)
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
    if content.get('categories') is None:
        content['categories'] = []
    if not isinstance(content['categories'], list):
        raise ValueError(f'{path} is not in COCO\'s format: categories is not a list')
    for part in (*PARTS, 'categories'):
        for number, entry in enumerate(content[part]):
            if not isinstance(entry, dict if part != 'annotations' else Annotation):
                raise ValueError(f'{path}: entry {number} of {part} is not in COCO\'s format: {str(entry)[:80]}')
    return content


def _compact(entry: dict) -> Any:
    """Return an annotation as `Annotation`, an image without unused fields, other objects as they are."""
    if 'file_name' in entry and 'category_id' not in entry:
        return {name: entry[name] for name in IMAGE_FIELDS if name in entry}
    if 'image_id' not in entry or not OTHER_ANNOTATIONS.keys().isdisjoint(entry):
        return entry
    get = entry.get
    masks = get('segmentation')
    if type(masks) is list:
        masks = [_as_array(each) for each in masks]
    return Annotation(get('id'), get('image_id'), get('category_id'), _as_array(get('bbox')), get('area'),
                      get('iscrowd'), get('ignore'), masks, get('category_name'))


def _as_array(value: Any) -> Any:
    """Return a list of numbers as an array, anything else as it is."""
    if isinstance(value, list):
        try:
            return array('d', value)
        except (OverflowError, TypeError):
            pass
    return value


def _other_format(content: Any) -> str | None:
    """Return what a file is that isn't in COCO's format of instances; None if it may be."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, Annotation):
        return 'a list of detections, not of annotations'
    if isinstance(first, dict):
        return next((text for key, text in OTHER_LISTS.items() if key in first and 'images' not in first), None)
    if not isinstance(content, dict):
        return None
    if not isinstance(content.get('images'), list):
        return next((text for key, text in OTHER_FORMATS.items() if key in content), None)
    annotations = content.get('annotations')
    if isinstance(annotations, list) and annotations and isinstance(annotations[0], dict):
        return next((text for key, text in OTHER_ANNOTATIONS.items() if key in annotations[0]), None)
    return None
