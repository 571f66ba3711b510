"""Data in COCO's format, and what sub-networks see of it."""
import json

import numpy as np
import pytest
import torch
from coco_helpers import SIZE, make_coco
from torchvision.models.detection.image_list import ImageList

pytest.importorskip('faster_coco_eval', reason='needs the extra detection')

from gradaug_timm.detection.coco import CocoImages, read_coco
from gradaug_timm.detection.rescale import rescale
from gradaug_timm.detection.shapes import ShapeBatchSampler


def test_boxes_and_masks_are_those_of_the_file(tmp_path):
    content, _ = make_coco(tmp_path, images=1)
    image, target = CocoImages(read_coco(str(tmp_path), 'train2017', masks=True), masks=True)[0]
    x, y, w, h = content['annotations'][1]['bbox']
    assert image.shape == (3, SIZE, SIZE + 16)
    assert target['boxes'][1].tolist() == [x, y, x + w, y + h]
    assert target['labels'].tolist() == [1, 2]  # of COCO's ids 3 and 7
    expected = np.zeros((SIZE, SIZE + 16), np.uint8)
    expected[y:y + h, x:x + w] = 1
    assert np.array_equal(target['masks'][1], expected)


@pytest.mark.parametrize('change, message', [
    (lambda c: c['annotations'][0].update(bbox=[1, 2, 5]), 'annotation 1 has no box [x, y, width, height]: [1, 2, 5]'),
    (lambda c: c['annotations'][0].pop('segmentation'), 'annotation 1 has no mask'),
    (lambda c: c['annotations'][0].update(category_id=99), 'annotation 1 has category 99'),
    (lambda c: c['images'][0].update(file_name='gone.png'), 'the first is gone.png'),
    (lambda c: c.pop('images'), 'has no list of images'),
])
def test_wrong_annotations_are_named(tmp_path, change, message):
    content, path = make_coco(tmp_path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError) as raised:
        read_coco(str(tmp_path), 'train2017', masks=True)
    assert message in str(raised.value)


def test_annotations_without_masks_serve_boxes_alone(tmp_path):
    content, path = make_coco(tmp_path)
    content['annotations'][0].pop('segmentation')
    path.write_text(json.dumps(content))
    assert len(read_coco(str(tmp_path), 'train2017', masks=False).images) == 4


def test_boxes_and_masks_are_resized_with_the_image():
    image = torch.zeros(1, 3, 64, 128)
    image[0, :, 16:32, 32:96] = 1
    masks = image[0, :1].to(torch.uint8)
    target = {'boxes': torch.tensor([[32., 16., 96., 32.]]), 'labels': torch.tensor([1]), 'masks': masks}
    images, (resized,) = rescale(ImageList(image, [(64, 128)]), [target], (32, 64))
    assert images.tensors.shape == (1, 3, 32, 64)
    assert images.image_sizes == [(32, 64)]
    assert resized['boxes'].tolist() == [[16., 8., 48., 16.]]
    assert torch.equal(resized['masks'][0], (images.tensors[0, 0] > 0.5).to(torch.uint8))


def test_an_image_without_objects_is_resized_too():
    target = {'boxes': torch.zeros(0, 4), 'labels': torch.zeros(0, dtype=torch.int64),
              'masks': torch.zeros(0, 64, 64, dtype=torch.uint8)}
    _, (resized,) = rescale(ImageList(torch.rand(1, 3, 64, 64), [(64, 64)]), [target], (32, 32))
    assert resized['masks'].shape == (0, 32, 32)


@pytest.mark.parametrize('batch_size', [1, 2, 3, 5])
def test_batches_are_of_one_shape_but_for_the_last_and_hold_each_image_once(batch_size):
    shapes = [False] * 7 + [True] * 6
    order = torch.randperm(13, generator=torch.Generator().manual_seed(batch_size)).tolist()
    batches = list(ShapeBatchSampler(order, batch_size, shapes))
    full = 7 // batch_size + 6 // batch_size
    assert all(len({shapes[index] for index in batch}) == 1 for batch in batches[:full])
    assert {len(batch) for batch in batches} == {batch_size}
    assert len(batches) == 13 // batch_size == len(ShapeBatchSampler(order, batch_size, shapes))
    seen = [index for batch in batches for index in batch]
    assert len({*seen}) == len(seen) == 13 // batch_size * batch_size
    lying = [index for index in seen[:full * batch_size] if not shapes[index]]
    assert lying == [index for index in order if not shapes[index]][:len(lying)], 'in the order of the sampler'


def test_an_image_stands_where_it_is_higher_than_wide(tmp_path):
    content, path = make_coco(tmp_path, images=4, upright=2)
    content['images'][3].update(width=None)
    path.write_text(json.dumps(content))
    images = CocoImages(read_coco(str(tmp_path), 'train2017', masks=True), masks=True)
    assert images.stands() == [False, False, True, True]
    assert [image.shape[1] > image.shape[2] for image, _ in images] == [False, False, True, True]
