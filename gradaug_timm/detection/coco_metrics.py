"""COCO's twelve figures."""
from collections.abc import Sequence

import numpy as np
import torch

FIGURES = (
    'ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large',
    'ar1', 'ar10', 'ar100', 'ar_small', 'ar_medium', 'ar_large',
)
KINDS = {'box': 'bbox', 'mask': 'segm'}
MASK_THRESHOLD = 0.5


def as_results(
        outputs: Sequence[dict[str, torch.Tensor]],
        image_ids: Sequence[int],
        categories: Sequence[int],
) -> list[dict]:
    """Return what a detector found, in COCO's format of results.

    Args:
        outputs: For each image 'boxes' [M, 4] (x1, y1, x2, y2), 'labels' [M], 'scores' [M], perhaps 'masks'
            [M, 1, H, W] in 0 to 1.
        image_ids: COCO's ids of the images.
        categories: COCO's id of each label, the first of label 1.
    """
    results = []
    for output, image_id in zip(outputs, image_ids):
        boxes = output['boxes'].float().cpu()
        boxes[:, 2:] -= boxes[:, :2]
        labels, scores = output['labels'].tolist(), output['scores'].float().tolist()
        entries = [{'image_id': image_id, 'category_id': categories[label - 1], 'bbox': box, 'score': score}
                   for box, label, score in zip(boxes.tolist(), labels, scores)]
        for entry, code in zip(entries, _encode(output['masks']) if 'masks' in output else ()):
            entry['segmentation'] = code
        results += entries
    return results


def _encode(masks: torch.Tensor) -> list[dict]:
    from faster_coco_eval.core import mask as codes
    binary = (masks[:, 0] > MASK_THRESHOLD).to(torch.uint8).cpu().numpy()
    return [codes.encode(np.asfortranarray(each)) for each in binary]


def coco_figures(path: str, results: list[dict], kinds: Sequence[str]) -> dict[str, float]:
    """Compute the twelve figures of each kind, in percent; -1 if the annotations have no such object.

    Args:
        path: The file of annotations.
        results: What was found in all images.
        kinds: 'box', 'mask', or both.
    """
    from faster_coco_eval import COCO, COCOeval_faster
    truth = COCO(path)
    figures = {}
    for kind in kinds:
        values = [0.] * len(FIGURES)
        if results:
            found = truth.loadRes([_without_box(entry) if kind == 'mask' else entry for entry in results])
            evaluation = COCOeval_faster(truth, found, iouType=KINDS[kind], print_function=lambda *_: None)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            values = [float(value) for value in evaluation.all_stats[:len(FIGURES)]]
        figures.update({f'{kind}_{name}': 100 * value if value >= 0 else -1.
                        for name, value in zip(FIGURES, values)})
    return figures


def _without_box(entry: dict) -> dict:
    """Remove the box, so that COCO takes the area of the mask, not of the box."""
    return {name: value for name, value in entry.items() if name != 'bbox'}
