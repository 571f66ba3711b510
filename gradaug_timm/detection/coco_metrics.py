"""COCO's twelve figures, and the average precision of each category."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_convert

FIGURES = (
    'ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large',
    'ar1', 'ar10', 'ar100', 'ar_small', 'ar_medium', 'ar_large',
)
KINDS = {'box': 'bbox', 'mask': 'segm'}
MASK_THRESHOLD = 0.5


@dataclass(frozen=True)
class Evaluation:
    """The figures of a detector, in percent; -1 if the annotations have no such object.

    Args:
        figures: The twelve figures of each kind, such as 'box_ap'.
        by_label: Average precision of each label, the first of label 1, by 'box' and 'mask'.
    """

    figures: dict[str, float]
    by_label: dict[str, list[float]]


def as_results(outputs: Sequence[dict[str, torch.Tensor]], image_ids: Sequence[int]) -> list[dict]:
    """Return what a detector found, in COCO's format of results with labels as ids of categories.

    Args:
        outputs: For each image 'boxes' [M, 4] (x1, y1, x2, y2), 'labels' [M], 'scores' [M], perhaps 'masks'
            [M, 1, H, W] in 0 to 1.
        image_ids: The ids of the images.
    """
    results = []
    for output, image_id in zip(outputs, image_ids):
        boxes = box_convert(output['boxes'].float(), 'xyxy', 'xywh').cpu()
        labels, scores = output['labels'].tolist(), output['scores'].float().tolist()
        entries = [{'image_id': image_id, 'category_id': label, 'bbox': box, 'score': score}
                   for box, label, score in zip(boxes.tolist(), labels, scores)]
        for entry, code in zip(entries, _encode(output['masks']) if 'masks' in output else ()):
            entry['segmentation'] = code
        results += entries
    return results


def _encode(masks: torch.Tensor) -> list[dict]:
    from faster_coco_eval.core import mask as codes
    binary = (masks[:, 0] > MASK_THRESHOLD).to(torch.uint8).cpu().numpy()
    found = [codes.encode(np.asfortranarray(each)) for each in binary]
    return [{**code, 'counts': code['counts'].decode()} for code in found]  # text, as in JSON


def coco_figures(truth: dict, results: list[dict], kinds: Sequence[str]) -> Evaluation:
    """Compute the twelve figures of each kind.

    Args:
        truth: The annotations, with labels as ids of categories.
        results: What was found in all images, in the form of `as_results`.
        kinds: 'box', 'mask', or both.
    """
    figures: dict[str, float] = {}
    by_label: dict[str, list[float]] = {}
    for kind in kinds:
        values, by_label[kind] = _figures_of(truth, results, kind)
        figures.update({f'{kind}_{name}': _percent(value) for name, value in zip(FIGURES, values)})
    return Evaluation(figures, by_label)


def _figures_of(truth: dict, results: list[dict], kind: str) -> tuple[list[float], list[float]]:
    from faster_coco_eval import COCO, COCOeval_faster
    results = results or [_nothing(truth)]
    if kind == 'mask':
        results = [_without_box(entry) for entry in results]
        truth = {**truth, 'annotations': [each for each in truth['annotations'] if 'segmentation' in each]}
    whole = COCO(truth)
    evaluation = COCOeval_faster(
        whole, whole.loadRes(results), iouType=KINDS[kind], print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precisions = evaluation.eval['precision'][:, :, :, 0, -1]  # thresholds, recalls, labels; all areas, 100 detections
    means = [float(values[values > -1].mean()) if (values > -1).any() else -1. for values in precisions.T]
    return [float(value) for value in evaluation.all_stats[:len(FIGURES)]], [_percent(value) for value in means]


def _nothing(truth: dict) -> dict:
    """Return a detection without area, which evaluators that take no empty lists count for nothing."""
    from faster_coco_eval.core import mask as codes
    image = truth['images'][0]
    height, width = image['height'], image['width']
    code = codes.frPyObjects({'size': [height, width], 'counts': [height * width]}, height, width)
    return {'image_id': image['id'], 'category_id': truth['categories'][0]['id'], 'bbox': [0., 0., 0., 0.], 'score': 0.,
            'segmentation': code}


def _percent(value: float) -> float:
    return 100 * value if value >= 0 else -1.


def _without_box(entry: dict) -> dict:
    """Remove the box, so that COCO takes the area of the mask, not of the box."""
    return {name: value for name, value in entry.items() if name != 'bbox'}
