"""A file of annotations of the shape of COCO's train2017: its counts, its two boxes of no height, and its size."""
import json

import numpy as np

IMAGES, ANNOTATIONS, CATEGORIES = 118_287, 860_001, 80
CROWD_EVERY = 86  # about 10,000 crowds
EMPTY = {200365: (296.65, 388.33, 1.03, 0.0), 550395: (9.98, 188.56, 15.52, 0.0)}  # ids and boxes of no height
POOL = 2000  # shapes that annotations share
SIZES = ((640, 480), (640, 480), (640, 427), (480, 640), (500, 375))


def write_train2017(path, *, images=IMAGES, annotations=ANNOTATIONS):
    """Write the file, or a smaller one of the same shape; the ids of the empty boxes are scaled with it."""
    random = np.random.default_rng(0)
    shapes, crowds = [_shape(random) for _ in range(POOL)], [_crowd(random, *SIZES[0]) for _ in range(20)]
    labels = np.minimum(random.geometric(0.06, annotations), CATEGORIES).tolist()
    owners = random.integers(0, images, annotations).tolist()
    picks = random.integers(0, POOL, annotations).tolist()
    empty = dict(zip(empty_ids(annotations), EMPTY.values()))
    with open(path, 'w') as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        for number in range(images):
            width, height = SIZES[number % len(SIZES)]
            file.write((', ' if number else '') + (
                f'{{"license": 3, "file_name": "{number + 1:012d}.jpg", "coco_url": '
                f'"http://images.cocodataset.org/train2017/{number + 1:012d}.jpg", "height": {height}, '
                f'"width": {width}, "date_captured": "2013-11-14 11:18:45", "flickr_url": '
                f'"http://farm9.staticflickr.com/8186/{number + 1:010d}_d558a5df2b_z.jpg", "id": {number + 1}}}'))
        file.write('], "annotations": [')
        for number, (label, owner, pick) in enumerate(zip(labels, owners, picks), 1):
            polygons, box, area = shapes[pick]
            crowd = number % CROWD_EVERY == 0 and number not in empty
            if crowd:
                owner -= owner % len(SIZES)  # of the size of the codes
                polygons = crowds[pick % len(crowds)]
            elif number in empty:
                box, area = json.dumps(empty[number]), 0.0
            file.write((', ' if number > 1 else '') + (
                f'{{"segmentation": {polygons}, "area": {area}, "iscrowd": {int(crowd)}, "image_id": {owner + 1}, '
                f'"bbox": {box}, "category_id": {label}, "id": {number}}}'))
        names = [{'supercategory': 'thing', 'id': number, 'name': f'thing {number}'}
                 for number in range(1, CATEGORIES + 1)]
        file.write(f'], "categories": {json.dumps(names)}}}')


def empty_ids(annotations):
    """Return the ids of the two boxes of no height."""
    return [number * annotations // ANNOTATIONS for number in EMPTY]


def _shape(random):
    """Return a polygon of train2017's typical length as text, its box, and an area."""
    points = int(np.clip(random.lognormal(2.94, 0.6), 3, 300))
    centre, radius = random.uniform(80, 290, 2), random.uniform(8, 70)
    angles = np.sort(random.uniform(0, 2 * np.pi, points))
    polygon = (centre + radius * random.uniform(0.6, 1, (points, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1))
    polygon = polygon.round(2)
    low, high = polygon.min(0), polygon.max(0)
    box = [*low, *(high - low).clip(1)]
    area = float(np.prod(box[2:]) * 0.6)
    return (json.dumps([polygon.reshape(-1).tolist()]), json.dumps([round(float(value), 2) for value in box]),
            round(area, 4))


def _crowd(random, width, height):
    counts = random.integers(20, 3000, 250).tolist()
    total = np.cumsum(counts)
    counts = [count for count, so_far in zip(counts, total) if so_far < width * height]
    return json.dumps({'counts': [*counts, width * height - sum(counts)], 'size': [height, width]})
