"""Masks of objects: polygons or run-length codes, in the forms that annotation tools write."""
import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from .values import finite, whole

SMALLEST = 6  # numbers of a polygon: three points
Segmentation = list[array] | dict


def read_segmentation(value: Any, height: int, width: int) -> Segmentation | None:
    """Return a mask as polygons or as a run-length code of the image's size; None if there is no mask.

    Polygons of fewer than three points are left out.

    Args:
        value: The mask as it is in the file: polygons, one flat polygon, points, or a run-length code.
        height: Height of the image.
        width: Width of the image.

    Raises:
        ValueError: The mask is broken.
    """
    if not value:
        return None
    if type(value) is list and all(map(_is_polygon, value)):
        return value
    if isinstance(value, list) and all(isinstance(each, array) and not each for each in value):
        return None
    if isinstance(value, list) and all(isinstance(each, dict) and 'counts' in each for each in value):
        return _merged([_read_code(each, height, width) for each in value])
    if isinstance(value, dict):
        return _read_code(value, height, width)
    if not isinstance(value, list):
        raise ValueError(f'has a mask that is {str(value)[:40]!r}, neither polygons nor a run-length code')
    polygons = [each for each in map(_numbers, _as_polygons(value)) if len(each) >= SMALLEST and len(each) % 2 == 0]
    if not polygons:
        raise ValueError('has a mask without a polygon of three points')
    if not all(map(_is_polygon, polygons)):
        raise ValueError('has a mask with numbers that are not finite')
    return polygons


def code_of(segmentation: Segmentation, height: int, width: int) -> dict:
    """Return the run-length code of a mask."""
    from faster_coco_eval.core import mask as codes
    if isinstance(segmentation, dict):
        return codes.frPyObjects(segmentation, height, width) if isinstance(
            segmentation['counts'], list) else segmentation
    return codes.merge(codes.frPyObjects(plain(segmentation), height, width))


def plain(segmentation: Segmentation) -> Any:
    """Return a mask as JSON has it: lists of numbers, or a run-length code."""
    return dict(segmentation) if isinstance(segmentation, dict) else [each.tolist() for each in segmentation]


def decode_mask(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """Decode the mask [H, W] of 0 and 1 that polygons or a run-length code describe."""
    from faster_coco_eval.core import mask as codes
    return codes.decode(code_of(segmentation, *size))


def mask_area(segmentation: Segmentation, height: int, width: int) -> float:
    """Return the number of pixels of a mask."""
    from faster_coco_eval.core import mask as codes
    return float(codes.area(code_of(segmentation, height, width)))


def mask_box(segmentation: Segmentation, height: int, width: int) -> tuple[float, float, float, float]:
    """Return the box (x, y, width, height) around a mask."""
    if isinstance(segmentation, dict):
        from faster_coco_eval.core import mask as codes
        x, y, w, h = map(float, codes.toBbox(code_of(segmentation, height, width)))
        return x, y, w, h
    across = [value for each in segmentation for value in each[0::2]]
    down = [value for each in segmentation for value in each[1::2]]
    return min(across), min(down), max(across) - min(across), max(down) - min(down)


def _is_polygon(value: Any) -> bool:
    return type(value) is array and len(value) >= SMALLEST and len(value) % 2 == 0 and math.isfinite(sum(value))


def _as_polygons(value: list) -> list:
    """Return polygons, of which each is a list of numbers or of points."""
    if all(isinstance(each, (int, float, str)) for each in value):
        return [value]  # flat
    if len(value) > 2 and all(isinstance(each, (list, array)) and len(each) == 2 for each in value):
        return [value]  # points of one polygon
    return value


def _numbers(polygon: Any) -> array:
    """Return the numbers of a polygon that may be written as text, as points, or as {'x': ..., 'y': ...}."""
    if isinstance(polygon, array):
        return polygon
    numbers = array('d')
    for each in polygon if isinstance(polygon, list) else [polygon]:
        parts = [each.get('x'), each.get('y')] if isinstance(each, dict) else (
            each if isinstance(each, (list, array)) else [each])
        values = [finite(part) for part in parts]
        if None in values:
            raise ValueError(f'has a mask with {str(each)[:40]!r} in place of finite numbers')
        numbers.extend(values)  # type: ignore[arg-type]
    return numbers


def _read_code(value: dict, height: int, width: int) -> dict:
    """Return a run-length code, which must be of the image's size."""
    from faster_coco_eval.core import mask as codes
    counts, size = value.get('counts'), value.get('size') or [height, width]
    if not isinstance(size, Sequence) or [whole(side) for side in size] != [height, width]:
        raise ValueError(f'has a mask of size {size} (height, width) in an image of {[height, width]}')
    if isinstance(counts, list):
        numbers = [whole(each) for each in counts]
        if None in numbers or any(each < 0 for each in numbers) or sum(numbers) != height * width:  # type: ignore[arg-type]
            raise ValueError(f'has a run-length code that does not describe the {height * width} pixels of its image')
        return {'size': [height, width], 'counts': numbers}
    if not isinstance(counts, (str, bytes)):
        raise ValueError('has a mask without counts')
    code = {'size': [height, width], 'counts': counts}
    try:
        codes.decode(code)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f'has a broken run-length code ({error})') from None
    return code


def _merged(parts: list[dict]) -> dict:
    from faster_coco_eval.core import mask as codes
    return parts[0] if len(parts) == 1 else codes.merge([code_of(each, *each['size']) for each in parts])
