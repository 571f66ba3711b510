"""Annotation files as other tools write them: what is completed, left out, named, or refused."""
import copy
import gzip
import json
import math

import numpy as np
import pytest
from coco_helpers import SIZE, make_coco

pytest.importorskip('faster_coco_eval', reason='needs the extra detection')

from gradaug_timm.detection.arguments import DetectionSettings
from gradaug_timm.detection.categories import Category
from gradaug_timm.detection.coco import CocoImages, check_trainable, read_coco, results_of, truth_of
from gradaug_timm.detection.coco_metrics import coco_figures
from gradaug_timm.detection.contents import DetectorContents


def written(root, change, *, split='train2017', images=2, masks=True, **kwargs):
    """Return the annotations that are read after a change of the file, and the file's content before it."""
    content, path = make_coco(root, images=images, split=split)
    changed = copy.deepcopy(content)
    path.write_text(json.dumps(change(changed) or changed))
    return read_coco(str(root), split, masks=masks, **kwargs), content


def each(entries, change):
    for entry in entries:
        change(entry)


def targets(coco):
    return [target for _, target in CocoImages(coco, masks=True)]


def found_kinds(coco):
    return {kind: found.count for kind, found in coco.findings.kinds.items()}


COMPLETED = {
    'missing ids': (lambda c: each(c['annotations'], lambda a: a.pop('id')), 'annotation_ids'),
    'ids from 0': (lambda c: each(c['annotations'], lambda a: a.update(id=a['id'] - 1)), 'annotation_ids'),
    'repeated ids': (lambda c: each(c['annotations'], lambda a: a.update(id=5)), 'annotation_ids'),
    'text category ids': (lambda c: (each(c['annotations'], lambda a: a.update(category_id=str(a['category_id']))),
                                     each(c['categories'], lambda e: e.update(id=str(e['id'])))) and None,
                          'converted_ids'),
    'text image ids': (lambda c: (each(c['annotations'], lambda a: a.update(image_id=f'x{a["image_id"]}')),
                                  each(c['images'], lambda e: e.update(id=f'x{e["id"]}'))) and None, 'converted_ids'),
    'text image ids that Python takes for equal numbers': (lambda c: (
        each(c['annotations'], lambda a: a.update(image_id={10: '1_10', 11: '11_0'}[a['image_id']])),
        each(c['images'], lambda e: e.update(id={10: '1_10', 11: '11_0'}[e['id']]))) and None, 'converted_ids'),
    'ids as floats in annotations': (lambda c: each(c['annotations'], lambda a: a.update(
        image_id=float(a['image_id']), category_id=float(a['category_id']))), None),
    'no sizes': (lambda c: each(c['images'], lambda e: (e.pop('height'), e.pop('width'))), 'sizes_read'),
    'sizes as text': (lambda c: each(c['images'], lambda e: e.update(
        height=str(e['height']), width=f'{e["width"]}.0')), None),
    'boxes as text': (lambda c: each(c['annotations'], lambda a: a.update(bbox=[*map(str, a['bbox'])])), None),
    'no boxes': (lambda c: each(c['annotations'], lambda a: a.pop('bbox')), 'boxes_computed'),
    'empty boxes': (lambda c: each(c['annotations'], lambda a: a.update(bbox=[])), 'boxes_computed'),
    'no areas': (lambda c: each(c['annotations'], lambda a: a.pop('area')), 'areas_computed'),
    'areas of null': (lambda c: each(c['annotations'], lambda a: a.update(area=None)), 'areas_computed'),
    'no iscrowd': (lambda c: each(c['annotations'], lambda a: a.pop('iscrowd')), None),
    'iscrowd as text': (lambda c: each(c['annotations'], lambda a: a.update(iscrowd='0')), None),
    'iscrowd as false': (lambda c: each(c['annotations'], lambda a: a.update(iscrowd=False)), None),
    'flat polygons': (lambda c: each(c['annotations'], lambda a: a.update(segmentation=a['segmentation'][0])), None),
    'polygons of text': (lambda c: each(c['annotations'], lambda a: a.update(
        segmentation=[[str(value) for value in a['segmentation'][0]]])), None),
    'polygons of points': (lambda c: each(c['annotations'], lambda a: a.update(
        segmentation=np.reshape(a['segmentation'], (-1, 2)).tolist())), None),
    'polygons of named points': (lambda c: each(c['annotations'], lambda a: a.update(
        segmentation=[[{'x': x, 'y': y} for x, y in np.reshape(a['segmentation'], (-1, 2)).tolist()]])), None),
    'a polygon of two points beside': (lambda c: each(c['annotations'], lambda a: a.update(
        segmentation=[*a['segmentation'], [1, 2, 3, 4]])), None),
    'names in coco_url': (lambda c: each(c['images'], lambda e: e.update(
        coco_url=f'http://images.cocodataset.org/train2017/{e.pop("file_name")}')), None),
    'names of other files, and coco_url': (lambda c: each(c['images'], lambda e: e.update(
        coco_url=f'http://images.cocodataset.org/train2017/{e["file_name"]}', file_name=f'x_{e["file_name"]}')), None),
    'names of COCO 2014': (lambda c: each(c['images'], lambda e: e.update(
        file_name=f'COCO_train2014_{e["file_name"]}')), None),
    'names with folders of another computer': (lambda c: each(c['images'], lambda e: e.update(
        file_name=f'C:\\photos\\of me\\{e["file_name"]}')), None),
    'keypoints and other fields': (lambda c: (c.update(info=None, licenses=[], videos=[]), each(
        c['annotations'], lambda a: a.update(keypoints=[1, 2, 2], num_keypoints=1, attributes={'id': 3})),
        each(c['categories'], lambda e: e.update(supercategory='x', keypoints=['nose'], skeleton=[])))
        and None, None),
    'no categories': (lambda c: c.pop('categories') and None, 'categories_listed'),
    'categories without names': (lambda c: each(c['categories'], lambda e: e.pop('name')), 'names_made'),
    'an image listed again': (lambda c: c['images'].append(c['images'][0]), 'repeated_images'),
    'a byte order mark': ('utf-8-sig', None),
    'UTF-16 of PowerShell': ('utf-16', None),
    'annotations with names of files': (lambda c: each(c['annotations'], lambda a: a.update(file_name='x.png')), None),
    'annotation ids that are objects': (lambda c: each(c['annotations'], lambda a: a.update(
        id={'$oid': str(a['id'])})), None),
    'categories of null': (lambda c: c.update(categories=None), 'categories_listed'),
    'infinite areas': (lambda c: each(c['annotations'], lambda a: a.update(area=math.inf)), 'areas_computed'),
}


@pytest.mark.parametrize('name', COMPLETED)
def test_what_a_file_lacks_is_completed(tmp_path, name):
    change, kind = COMPLETED[name]
    if isinstance(change, str):
        _, path = make_coco(tmp_path, images=2)
        path.write_text(path.read_text(), encoding=change)
        coco = read_coco(str(tmp_path), 'train2017', masks=True)
    else:
        coco, _ = written(tmp_path, change)
    plain, _ = written(tmp_path / 'plain', lambda c: None)
    for ours, expected in zip(targets(coco), targets(plain), strict=True):
        assert ours.keys() == expected.keys()
        assert all(ours[key].equal(expected[key]) for key in expected)
    ours, expected = (truth_of(each, range(2)) for each in (coco, plain))
    assert [entry['area'] for entry in ours['annotations']] == [entry['area'] for entry in expected['annotations']]
    assert [entry['id'] for entry in ours['annotations']] == [1, 2, 3, 4]
    assert set(found_kinds(coco)) == ({kind} if kind else set())
    made = kind in ('categories_listed', 'names_made')
    assert coco.names == (['category 3', 'category 7'] if made else plain.names)


LEFT_OUT = {
    'a box of no height': (lambda a: a.update(bbox=[1, 2, 5, 0]), 'boxes_without_area', 'has a box of no area'),
    'a negative box': (lambda a: a.update(bbox=[9, 9, -5, 4]), 'boxes_without_area', 'has a box of no area'),
    'a box of NaN': (lambda a: a.update(bbox=[math.nan, 2, 5, 5]), 'boxes_not_finite', 'has a box that is not of'),
    'a box of null': (lambda a: a.update(bbox=[None, 2, 5, 5]), 'boxes_not_finite', 'has a box that is not of'),
    'a box elsewhere': (lambda a: a.update(bbox=[500, 500, 5, 5]), 'boxes_outside', 'has a box outside of its image'),
    'a box of more than a float': (
        lambda a: a.update(bbox=[1, 2, 10 ** 400, 5]), 'boxes_not_finite', 'has a box that is not of'),
    'a box that vanishes where it is rounded': (
        lambda a: a.update(bbox=[50.3, 2, 1e-6, 5]), 'boxes_without_area', 'has a box of no area'),
    'a box that begins at the edge': (
        lambda a: a.update(bbox=[SIZE + 15.9999999, 2, .5, 5]), 'boxes_outside', 'has a box outside of its image'),
    'a code of nothing': (
        lambda a: a.update(segmentation={'size': [SIZE, SIZE + 16], 'counts': []}), 'broken_masks',
        'has a run-length code that does not describe'),
    'an image that is not listed': (
        lambda a: a.update(image_id=99), 'annotations_without_image', 'is of image 99, which is not listed'),
    'a polygon of two points': (
        lambda a: a.update(segmentation=[[1, 2, 3, 4]]), 'broken_masks', 'has a mask without a polygon'),
    'a polygon of null': (
        lambda a: a.update(segmentation=[[None] * 8]), 'broken_masks', 'has a mask with'),
    'a mask of another size': (
        lambda a: a.update(segmentation={'size': [10, 10], 'counts': [50, 50]}), 'broken_masks', 'has a mask of size'),
    'a mask of too few pixels': (
        lambda a: a.update(segmentation={'size': [SIZE, SIZE + 16], 'counts': [50, 50]}), 'broken_masks',
        'has a run-length code that does not describe'),
    'a broken code': (
        lambda a: a.update(segmentation={'size': [SIZE, SIZE + 16], 'counts': 'd0'}), 'broken_masks',
        'has a broken run-length code'),
    'an ignored object': (lambda a: a.update(ignore=1), 'ignored_objects', 'is marked "ignore"'),
}


@pytest.mark.parametrize('name', LEFT_OUT)
def test_what_cannot_be_used_is_left_out_and_named(tmp_path, name, caplog):
    change, kind, problem = LEFT_OUT[name]
    coco, content = written(tmp_path, lambda c: change(c['annotations'][1]))
    boxes = [target['boxes'].tolist() for target in targets(coco)]
    kept = [[entry['bbox'] for entry in content['annotations'] if entry['image_id'] == image and entry['id'] != 2]
            for image in (10, 11)]
    assert boxes == [[[x, y, x + w, y + h] for x, y, w, h in image] for image in kept]
    assert found_kinds(coco) == {kind: 1}
    coco.log_findings()
    assert 'annotation 2' in caplog.text and len(caplog.records) == 1 and caplog.records[0].levelname == 'WARNING'
    with pytest.raises(ValueError) as raised:
        read_coco(str(tmp_path), 'train2017', masks=True, strict=True)
    assert f'annotation 2 {problem}' in str(raised.value)


def test_a_compressed_file_is_refused_in_one_line(tmp_path):
    _, path = make_coco(tmp_path, images=1)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=r'instances_train2017\.json is broken: it is compressed by gzip; unpack it'):
        read_coco(str(tmp_path), 'train2017', masks=True)


def test_a_box_that_reaches_beyond_its_image_is_cut_in_training_and_kept_for_evaluation(tmp_path):
    coco, _ = written(tmp_path, lambda c: c['annotations'][0].update(bbox=[-20, 10, 60, 300]))
    assert targets(coco)[0]['boxes'][0].tolist() == [0, 10, 40, SIZE]
    assert truth_of(coco, [0])['annotations'][0]['bbox'] == [-20, 10, 60, 300]
    assert found_kinds(coco) == {'boxes_beyond': 1}


def test_boxes_beyond_the_edge_by_rounding_are_left_as_they_are(tmp_path):
    coco, _ = written(tmp_path, lambda c: c['annotations'][0].update(bbox=[-0.5, 10, 60, 86.5]))
    assert targets(coco)[0]['boxes'][0].tolist() == [-0.5, 10, 59.5, 96.5]
    assert not found_kinds(coco)


REFUSED = {
    'corners': (lambda c: each(c['annotations'], lambda a: a.update(
        bbox=[a['bbox'][0], a['bbox'][1], a['bbox'][0] + a['bbox'][2] + 25, a['bbox'][1] + a['bbox'][3] + 8])),
        'they seem to be corners [x1, y1, x2, y2]'),
    'fractions': (lambda c: each(c['annotations'], lambda a: a.update(bbox=[.1, .2, .3, .4])),
                  'they seem to be fractions of the image'),
    'corners that are within their images': (lambda c: each(c['annotations'], lambda a: a.update(
        segmentation=[[30, 30, 50, 30, 50, 50, 30, 50]], bbox=[30, 30, 50, 50])), '4 of 4 boxes are not where their'),
    'boxes that begin at the centre': (lambda c: each(c['annotations'], lambda a: a.update(
        bbox=[a['bbox'][0] + a['bbox'][2] / 2, a['bbox'][1] + a['bbox'][3] / 2, *a['bbox'][2:]])),
        'COCO\'s boxes are [x, y, width, height], and polygons'),
    'polygons in fractions': (lambda c: each(c['annotations'], lambda a: a.update(
        segmentation=[[value / 112 for value in a['segmentation'][0]]])), '4 of 4 boxes are not where their masks are'),
    'a box in one text': (lambda c: c['annotations'][0].update(bbox='1234'), 'annotation 1 has no box [x, y, width,'),
    'a rotated box': (lambda c: c['annotations'][0].update(bbox=[1, 2, 3, 4, .5]), 'rotated boxes are not supported'),
    'no box and no mask': (lambda c: (c['annotations'][0].pop('bbox'), c['annotations'][0].pop('segmentation'))
                           and None, 'annotation 1 has no'),
    'an unknown category': (lambda c: c['annotations'][0].update(category_id=99),
                            'annotation 1 has category 99, which is not listed'),
    'an image without name': (lambda c: c['images'][0].pop('file_name') and None, 'image 10 has no file_name'),
    'an image without id': (lambda c: c['images'][0].pop('id') and None, 'image 10.png has no id'),
    'no images': (lambda c: c['images'].clear(), 'lists no images'),
    'masks of empty lists': (lambda c: each(c['annotations'], lambda a: a.update(segmentation=[[]])),
                             'annotation 1 has no mask; use --detector faster_rcnn'),
    'two names of one file': (lambda c: c['images'].append({**c['images'][0], 'id': 99, 'file_name': 'b/10.png'}),
                              '10.png and b/10.png are both found as'),
    'two images of one id': (lambda c: c['images'][1].update(id=10), 'has image 10 twice: 10.png and 11.png'),
    'a category twice': (lambda c: c['categories'][1].update(id=3), 'has category 3 twice'),
    'annotations of another file': (lambda c: each(c['annotations'], lambda a: a.update(image_id=-1)),
                                    'none of the 4 annotations is of an image that is listed'),
    'a list of detections': (lambda c: [{'image_id': 10, 'category_id': 3, 'bbox': [1, 2, 3, 4], 'score': .5}],
                             'is a list of detections, not of annotations'),
    'frames of BDD100K': (lambda c: [{'name': 'x.jpg', 'labels': []}], 'is a list of labels by frame'),
    'a project of Label Studio': (lambda c: [{'id': 1, 'annotations': []}], 'is an export of Label Studio'),
    'a file of labelme': (lambda c: {'shapes': [], 'imagePath': 'x.jpg'}, 'is a file of labelme'),
    'captions': (lambda c: {**c, 'annotations': [{'image_id': 10, 'id': 1, 'caption': 'red'}]},
                 'is a file of captions'),
    'panoptic segments': (lambda c: {**c, 'annotations': [{'image_id': 10, 'segments_info': []}]},
                          'is a panoptic file'),
    'a test file of COCO': (lambda c: c.pop('annotations') and None, 'has no list of annotations; test files'),
    'a list': (lambda c: ['x'], 'is not in COCO\'s format'),
    'a text among images': (lambda c: c['images'].append('x.jpg'), 'entry 2 of images is not in'),
    'swapped sizes': (lambda c: each(c['images'], lambda e: e.update(width=e['height'], height=e['width'])),
                      'height and width are swapped; correct them'),
    'sizes of other images': (lambda c: each(c['images'], lambda e: e.update(width=640, height=480)),
                              '2 of 2 images have another size than their annotations say, the first is 10.png'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_files_that_training_would_learn_wrongly_from_are_refused_in_one_line(tmp_path, name):
    change, message = REFUSED[name]
    with pytest.raises(ValueError) as raised:
        written(tmp_path, change)
    assert message in str(raised.value) and '\n' not in str(raised.value)
    assert 'instances_train2017.json' in str(raised.value)


@pytest.mark.parametrize('path', [
    'annotations/instances_x.json', 'annotations/x.json', 'x/_annotations.coco.json', 'x.json'])
@pytest.mark.parametrize('folder', ['x', 'images/x', 'images', 'data', '.'])
def test_the_layouts_of_other_tools_are_found(tmp_path, path, folder):
    _, original = make_coco(tmp_path / 'made', images=1)
    root = tmp_path / 'root'
    for file, goal in ((original, root / path), (tmp_path / 'made' / 'train2017' / '10.png', root / folder / '10.png')):
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_bytes(file.read_bytes())
    assert len(CocoImages(read_coco(str(root), 'x', masks=True), masks=True)[0][1]['boxes']) == 2


def test_files_are_found_by_the_longest_part_of_their_names(tmp_path):
    content, path = make_coco(tmp_path, images=2)
    folder, goals = tmp_path / 'train2017', [tmp_path / 'train2017' / name / '1.png' for name in 'ab']
    for name, goal in zip(('10.png', '11.png'), goals):
        goal.parent.mkdir()
        (folder / name).rename(goal)
    (folder / '1.png').write_bytes(goals[0].read_bytes())
    for image, name in zip(content['images'], ('C:\\me\\a\\1.png', '/home/you/b/1.png')):
        image['file_name'] = name
    path.write_text(json.dumps(content))
    assert [image.path for image in read_coco(str(tmp_path), 'train2017', masks=True).images] == [*map(str, goals)]


def test_an_image_that_is_listed_again_under_another_id_is_named(tmp_path):
    coco, _ = written(tmp_path, lambda c: c['images'].append({**c['images'][0], 'id': 99}))
    assert [len(target['boxes']) for target in targets(coco)] == [2, 2, 0]
    assert coco.findings.kinds['repeated_files'].examples == ['10.png']


TRAINED = (Category(3, 'colour 3'), Category(7, 'colour 7'))


def test_labels_of_validation_follow_the_names_of_training(tmp_path):
    def renumber(content):
        content['categories'] = [{'id': 1, 'name': 'colour 7'}, {'id': 2, 'name': 'colour 3'}]
        each(content['annotations'], lambda a: a.update(category_id={7: 1, 3: 2}[a['category_id']]))
    coco, _ = written(tmp_path, renumber, split='val2017', trained=TRAINED)
    assert [target['labels'].tolist() for target in targets(coco)] == [[1, 2], [1, 2]]
    assert coco.keys == [2, 1] and not found_kinds(coco)
    results = [{'image_id': 0, 'category_id': 2, 'bbox': [1, 2, 3, 4], 'score': .5}]
    assert [entry['category_id'] for entry in results_of(coco, results)] == [1]


def test_a_name_in_validation_is_that_of_the_trained_category_of_this_id_which_had_none(tmp_path):
    trained = DetectorContents(
        DetectionSettings(categories=(3, 7)), {}, None, ('category 3', 'colour 7')).categories
    assert [category.named for category in trained] == [False, True]
    coco, _ = written(tmp_path, lambda c: None, split='val2017', trained=trained)
    assert [target['labels'].tolist() for target in targets(coco)] == [[1, 2], [1, 2]]


def test_a_validation_file_may_lack_a_category_which_is_named(tmp_path):
    def without(content):
        content['categories'].pop(0)
        content['annotations'] = [entry for entry in content['annotations'] if entry['category_id'] == 7]
    coco, _ = written(tmp_path, without, split='val2017', trained=TRAINED)
    assert [target['labels'].tolist() for target in targets(coco)] == [[2], [2]]
    assert coco.findings.kinds['lacking_categories'].examples == ['colour 3']
    results = [{'image_id': 0, 'category_id': label, 'bbox': [1, 2, 3, 4], 'score': .5} for label in (1, 2)]
    assert [entry['category_id'] for entry in results_of(coco, results)] == [7]
    assert coco_figures(truth_of(coco, [0, 1]), results, ('box',)).by_label == {'box': [-1., 0.]}


def test_a_validation_file_without_objects_is_named_and_its_figures_are_none(tmp_path):
    coco, _ = written(tmp_path, lambda c: c['annotations'].clear(), split='val2017', trained=TRAINED)
    assert found_kinds(coco) == {'no_objects': 2}
    results = [{'image_id': 0, 'category_id': 2, 'bbox': [1, 2, 3, 4], 'score': .5}]
    for found in ([], results):
        evaluation = coco_figures(truth_of(coco, [0, 1]), found, ('box',))
        assert {*evaluation.figures.values()} == {-1.} and evaluation.by_label == {'box': [-1., -1.]}


def test_without_detections_figures_are_zero_for_the_areas_that_objects_have(tmp_path):
    coco, _ = written(tmp_path, lambda c: each(c['annotations'], lambda a: a.update(
        area=1600, category_id=3)))
    evaluation = coco_figures(truth_of(coco, [0, 1]), [], ('box', 'mask'))
    assert {name for name, value in evaluation.figures.items() if value == -1} == {
        f'{kind}_{figure}_{area}' for kind in ('box', 'mask') for figure in ('ap', 'ar') for area in ('small', 'large')}
    assert {*evaluation.figures.values()} == {0., -1.}
    assert evaluation.by_label == {'box': [0., -1.], 'mask': [0., -1.]}


def test_objects_of_a_category_that_is_not_trained_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r'categories that are not trained: Colour-7; .* lacks: colour 7, did you'):
        written(tmp_path, lambda c: c['categories'][1].update(name='Colour-7'), split='val2017', trained=TRAINED)


def test_an_unused_category_of_roboflow_may_have_the_name_of_another(tmp_path):
    def roboflow(content):
        content['categories'].insert(0, {'id': 0, 'name': 'colour 3', 'supercategory': 'none'})
    train, _ = written(tmp_path, roboflow)
    assert train.names == ['colour 3', 'colour 3', 'colour 7']
    assert found_kinds(train) == {'unused_categories': 1}
    val, _ = written(tmp_path, roboflow, split='val2017', trained=train.categories)
    assert [target['labels'].tolist() for target in targets(val)] == [[2, 3], [2, 3]]


@pytest.mark.parametrize('image, category', [('image-', 'cat-'), ('', '')])
def test_detections_are_written_with_the_ids_of_the_file(tmp_path, image, category):
    def texts(content):
        each(content['images'], lambda e: e.update(id=f'{image}{e["id"]}'))
        each(content['annotations'], lambda a: a.update(
            image_id=f'{image}{a["image_id"]}', category_id=f'{category}{a["category_id"]}'))
        each(content['categories'], lambda e: e.update(id=f'{category}{e["id"]}'))
    coco, _ = written(tmp_path, texts)
    results = [{'image_id': 1, 'category_id': 2, 'bbox': [1, 2, 3, 4], 'score': .5}]
    assert results_of(coco, results) == [{**results[0], 'image_id': f'{image}11', 'category_id': f'{category}7'}]


@pytest.mark.parametrize('change', [
    lambda c: each(c['annotations'], lambda a: a.update(id=a['id'] - 1)),
    lambda c: each(c['annotations'], lambda a: a.pop('area')),
    lambda c: each(c['annotations'], lambda a: a.update(id=1)),
])
def test_figures_do_not_depend_on_ids_and_given_areas(tmp_path, change):
    coco, content = written(tmp_path, change, images=4)
    plain, _ = written(tmp_path / 'plain', lambda c: None, images=4)
    results = [{'image_id': entry['image_id'] - 10, 'category_id': {3: 1, 7: 2}[entry['category_id']],
                'bbox': entry['bbox'], 'score': .5} for entry in content['annotations']]
    ours, expected = (
        coco_figures(truth_of(each, range(4)), copy.deepcopy(results), ('box',)) for each in (coco, plain))
    assert ours == expected and ours.figures['box_ap'] == pytest.approx(100)
    assert ours.figures['box_ap_medium'] == pytest.approx(100)


def test_a_crowd_without_mask_is_a_region_that_masks_ignore(tmp_path):
    coco, _ = written(tmp_path, lambda c: c['annotations'][0].update(iscrowd=1, segmentation=None))
    crowd = truth_of(coco, [0])['annotations'][0]
    x, y, w, h = crowd['bbox']
    assert crowd['iscrowd'] == 1 and crowd['segmentation'] == [[x, y, x + w, y, x + w, y + h, x, y + h]]
    assert len(targets(coco)[0]['boxes']) == 1


def test_compressed_and_plain_run_length_codes_are_the_masks_of_polygons(tmp_path):
    from pycocotools import mask as codes

    def coded(content):
        for number, entry in enumerate(content['annotations']):
            code = codes.merge(codes.frPyObjects(entry['segmentation'], SIZE, SIZE + 16))
            plain = codes.decode(code).T.reshape(-1)
            edges = np.flatnonzero(np.diff(np.concatenate([[0], plain, [1 - plain[-1]]])))
            counts = np.diff(np.concatenate([[0], edges])).tolist()
            entry['segmentation'] = {'size': [SIZE, SIZE + 16], 'counts': counts if number % 2 else code[
                'counts'].decode()}
    coco, _ = written(tmp_path, coded)
    plain, _ = written(tmp_path / 'plain', lambda c: None)
    assert all(ours['masks'].equal(expected['masks']) for ours, expected in zip(targets(coco), targets(plain)))


def test_a_file_of_crowds_only_is_refused(tmp_path):
    coco, _ = written(tmp_path, lambda c: each(c['annotations'], lambda a: a.update(iscrowd=1)))
    with pytest.raises(ValueError, match='no object to train on: of 4 annotations that can be used, 4 are crowds'):
        check_trainable(coco)
