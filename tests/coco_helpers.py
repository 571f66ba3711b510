"""A data set in COCO's format with coloured rectangles, one category for each colour."""
import json

import numpy as np
from PIL import Image

COLOURS = {3: (220, 30, 30), 7: (30, 60, 220)}  # by COCO's id of the category
SIZE = 96


def make_coco(root, *, images=4, upright=0, split='train2017', seed=0):
    """Writes images, the last `upright` of them higher than wide, and annotations; returns those and their path."""
    random = np.random.default_rng(seed)
    (root / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    content = {'images': [], 'annotations': [],
               'categories': [{'id': number, 'name': f'colour {number}'} for number in COLOURS]}
    for image_id in range(10, 10 + images):
        height, width = (SIZE + 16, SIZE) if image_id >= 10 + images - upright else (SIZE, SIZE + 16)
        pixels = np.full((height, width, 3), 200, np.uint8)
        for number, colour in COLOURS.items():
            (x, y), (w, h) = random.integers(0, 40, 2).tolist(), random.integers(24, 48, 2).tolist()
            pixels[y:y + h, x:x + w] = colour
            content['annotations'].append({
                'id': len(content['annotations']) + 1, 'image_id': image_id, 'category_id': number, 'iscrowd': 0,
                'bbox': [x, y, w, h], 'area': w * h,
                'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]]})
        Image.fromarray(pixels).save(root / split / f'{image_id}.png')
        content['images'].append(
            {'id': image_id, 'file_name': f'{image_id}.png', 'height': height, 'width': width})
    path = root / 'annotations' / f'instances_{split}.json'
    path.write_text(json.dumps(content))
    return content, path
