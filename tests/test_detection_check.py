"""The check of a data set in COCO's format, and annotation files of the size of COCO's train2017."""
import json
import re
import shutil
import subprocess
import sys

import pytest
from coco_helpers import COLOURS, make_coco
from PIL import Image
from train2017 import ANNOTATIONS, CATEGORIES, IMAGES, empty_ids, write_train2017

pytest.importorskip('faster_coco_eval', reason='needs the extra detection')

from gradaug_timm.check_data.main import main
from gradaug_timm.data.findings import Level
from gradaug_timm.detection.check import check_coco
from gradaug_timm.detection.check_data import ObjectCrops

MEASURED = '''
import resource, sys, time
if sys.argv[1] == 'ours':
    from gradaug_timm.detection.check import check_coco as load
    arguments = (sys.argv[2], ('train2017',)), dict(masks=True, pixels=False)
else:
    from pycocotools.coco import COCO as load
    arguments = (f'{sys.argv[2]}/annotations/instances_train2017.json',), {}
started, used = time.perf_counter(), time.process_time()
load(*arguments[0], **arguments[1])
print('measured', time.perf_counter() - started, time.process_time() - used,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
'''


def make_train2017(root, **counts):
    (root / 'annotations').mkdir()
    path = root / 'annotations' / 'instances_train2017.json'
    write_train2017(path, **counts)
    return path


def by_kind(report, split=''):
    """Return the findings of a split by kind."""
    return {each.kind: each for each in report.findings if split in each.text}


def errors(report):
    return [each.text for each in report.findings if each.level is Level.ERROR]


def test_a_file_of_the_shape_of_train2017_is_read_whole_but_for_its_two_boxes_of_no_height(tmp_path):
    path = make_train2017(tmp_path, images=300, annotations=3000)
    content = json.loads(path.read_text())
    report, _ = check_coco(str(tmp_path), ('train2017',), masks=True, pixels=False)
    split, = report.splits
    crowds = sum(entry['iscrowd'] for entry in content['annotations'])
    trained = [entry for entry in content['annotations'] if not entry['iscrowd'] and entry['bbox'][3]]
    assert (split.total, split.further['objects'], split.further['crowds']) == (300, len(trained), crowds)
    assert len(trained) == 3000 - crowds - 2 and crowds > 20 and len(split.classes) == CATEGORIES
    assert split.classes['thing 7'] == sum(entry['category_id'] == 7 for entry in trained)
    assert split.further['small objects'] == sum(entry['area'] < 32 ** 2 for entry in trained)
    assert split.further['images without objects'] == 300 - len({entry['image_id'] for entry in trained})
    found = by_kind(report)
    assert found['boxes_without_area'].examples == tuple(f'annotation {number}' for number in empty_ids(3000))
    assert f'{path}: 2 boxes without area are left out (' in found['boxes_without_area'].text
    assert not errors(report) and set(found) <= {'boxes_without_area', 'unused_categories', 'few_objects'}
    assert split.as_dict()['sizes'] == {'640x480': 120, '640x427': 60, '480x640': 60, '500x375': 60}


@pytest.mark.slow
def test_train2017_is_read_and_checked_in_a_minute_and_two_gigabytes(tmp_path):
    path = make_train2017(tmp_path)
    assert 4.2e8 < path.stat().st_size < 4.9e8
    used = {}
    for name in ('ours', 'pycocotools'):
        done = subprocess.run(
            [sys.executable, '-c', MEASURED, name, str(tmp_path)], capture_output=True, text=True, check=True)
        used[name] = [float(value) for value in re.search(r'measured (\S+) (\S+) (\S+)', done.stdout).groups()]
        print(f'{name}: {used[name][0]:.1f} s, {used[name][1]:.1f} s of CPU, {used[name][2] / 1e9:.2f} GB at most')
    assert used['ours'][1] < 60  # of CPU, since other programs may run
    assert used['ours'][2] < 2e9 < used['pycocotools'][2]
    report, (coco,) = check_coco(str(tmp_path), ('train2017',), masks=True, pixels=False)
    assert (report.splits[0].total, sum(map(len, coco.objects.values()))) == (IMAGES, ANNOTATIONS)
    assert '2 boxes without area are left out' in by_kind(report)['boxes_without_area'].text


@pytest.fixture
def data(tmp_path):
    contents = [make_coco(tmp_path, images=4, split='train2017'),
                make_coco(tmp_path, images=3, split='val2017', seed=1)]
    return tmp_path, contents


def test_a_sound_data_set_has_counts_and_no_errors(data):
    root, _ = data
    report, _ = check_coco(str(root), masks=True)
    assert [split.total for split in report.splits] == [4, 3]
    assert [split.classes for split in report.splits] == [
        {'colour 3': 4, 'colour 7': 4}, {'colour 3': 3, 'colour 7': 3}]
    assert {each.kind for each in report.findings} == {'few_objects'}
    assert json.loads(json.dumps(report.as_dict()))['splits']['train2017']['sizes'] == {'112x96': 4}


def test_every_fault_of_a_data_set_is_told_at_once(data):
    root, ((train, train_path), (val, val_path)) = data
    images = root / 'train2017'
    (images / '10.png').unlink()
    (images / '11.png').write_bytes((images / '11.png').read_bytes()[:-40])
    Image.open(images / '12.png').resize((30, 20)).save(images / '12.png')
    train['annotations'][7]['bbox'][3] = 0
    train_path.write_text(json.dumps(train))
    (root / 'val2017' / '11.png').write_bytes((images / '13.png').read_bytes())
    val['categories'].append({'id': 8, 'name': 'colour 8'})
    val_path.write_text(json.dumps(val))
    report, _ = check_coco(str(root), masks=True)
    found, other = by_kind(report, 'train2017'), by_kind(report, 'val2017')
    assert found['missing_files'].examples == ('10.png',) and '1 of 4 images ' in found['missing_files'].text
    assert [*report.splits[0].unreadable] == ['11.png']
    assert found['boxes_without_area'].examples == ('annotation 8',)
    assert found['size_mismatches'].examples == ('12.png',)
    assert other['leaks'].examples == ('11.png = 13.png',)
    assert '1 of 3 images are also in train2017' in other['leaks'].text
    assert other['unknown_unused'].examples == ('colour 8',)
    assert {each.kind for each in report.findings if each.level is Level.ERROR} == {
        'missing_files', 'unreadable', 'leaks'}


def test_validation_may_lack_objects_and_decoding_finds_images_of_32_bits(data):
    root, (_, (val, path)) = data
    path.write_text(json.dumps({**val, 'annotations': []}))
    Image.open(root / 'val2017' / '11.png').convert('I').save(root / 'val2017' / '11.png', 'TIFF')
    report, _ = check_coco(str(root), decode=True)
    assert by_kind(report)['no_objects'].level is Level.WARNING
    assert 'its pixels have 32 bits' in report.splits[1].unreadable['11.png']
    assert errors(report) == [by_kind(report)['unreadable'].text]


def test_categories_of_one_name_are_counted_each(data):
    root, ((train, path), _) = data
    for entry in train['categories']:
        entry['name'] = 'colour'
    path.write_text(json.dumps(train))
    assert check_coco(str(root), ('train2017',))[0].splits[0].classes == {'colour (3)': 4, 'colour (7)': 4}


def test_files_that_cannot_be_used_are_errors_of_the_check(data):
    root, (_, (val, path)) = data
    val['annotations'][0]['category_id'] = 99
    path.write_text(json.dumps(val))
    error, = errors(check_coco(str(root))[0])
    assert 'annotation 1 has category 99, which is not listed' in error
    (root / 'annotations' / 'instances_train2017.json').unlink()
    assert 'instances_train2017.json is missing' in errors(check_coco(str(root))[0])[0]


def test_the_command_shows_and_writes_the_check_and_draws_objects_by_category(data, capsys):
    root, _ = data
    with pytest.raises(SystemExit) as ended:
        main(['--coco', str(root), '--json', str(root / 'c.json'), '--picture', str(root / 'c.png')])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and printed.endswith('0 errors, 2 warnings.\n')
    assert re.search(r'\n +objects +8 +6\n', printed) and 'objects of each class' in printed
    assert re.search(r'colour 7 +4 +3\n', printed) and 'have fewer than 10 objects: colour 3, colour 7' in printed
    report = json.loads((root / 'c.json').read_text())
    assert report['splits']['train2017']['classes'] == {'colour 3': 4, 'colour 7': 4}
    assert report['splits']['train2017']['images_without_objects'] == 0
    assert report['counted'] == 'objects' and report['splits']['val2017']['sizes'] == {'112x96': 3}
    assert Image.open(root / 'c.png').size[0] == 1200
    crops = ObjectCrops(check_coco(str(root))[1][0])
    centres = [image.getpixel((image.width // 2, image.height // 2)) for image, label in crops if label == 1]
    assert crops.class_names[1] == 'colour 7' and centres == [COLOURS[7]] * 4  # drawn above the others
    with pytest.raises(SystemExit):
        main([str(root)])
    assert 'for data in COCO\'s format add --coco' in capsys.readouterr().err
    (root / 'val2017' / '10.png').unlink()
    with pytest.raises(SystemExit) as ended:
        main(['--coco', '--data-dir', str(root)])
    assert ended.value.code == 1 and '1 of 3 images have no file: 10.png' in capsys.readouterr().out


def test_a_split_that_is_trained_and_validated_on_is_checked_once(data, capsys):
    root, _ = data
    shutil.rmtree(root / 'val2017')
    with pytest.raises(SystemExit) as ended:
        main(['--coco', str(root), '-c', 'hparams/coco/tiny.yaml'])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and 'train2017: training and validation are the same images' in printed
    assert re.search(r'^ +train2017\n +images +4\n', printed, re.MULTILINE)
