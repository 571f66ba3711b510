"""The check of a data set in COCO's format, and annotation files of the size of COCO's train2017."""
import json
import re
import subprocess
import sys

import pytest
from coco_helpers import COLOURS, make_coco
from PIL import Image
from train2017 import ANNOTATIONS, CATEGORIES, IMAGES, empty_ids, write_train2017

pytest.importorskip('faster_coco_eval', reason='needs the extra detection')

from gradaug_timm.check_data.main import main
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


def test_a_file_of_the_shape_of_train2017_is_read_whole_but_for_its_two_boxes_of_no_height(tmp_path):
    path = make_train2017(tmp_path, images=300, annotations=3000)
    content = json.loads(path.read_text())
    check = check_coco(str(tmp_path), ('train2017',), masks=True, pixels=False)
    split, = check.splits
    crowds = sum(entry['iscrowd'] for entry in content['annotations'])
    assert (split.images, split.annotations, split.crowds) == (300, 3000, crowds) and crowds > 20
    assert sum(split.categories.values()) == 3000 - crowds - 2 and len(split.categories) == CATEGORIES
    trained = [entry for entry in content['annotations'] if not entry['iscrowd'] and entry['bbox'][3]]
    assert split.categories['thing 7'] == sum(entry['category_id'] == 7 for entry in trained)
    assert split.areas['small'] == sum(entry['area'] < 32 ** 2 for entry in trained)
    assert split.findings['boxes_without_area'] == {
        'count': 2, 'text': 'boxes without area are left out',
        'examples': [f'annotation {number}' for number in empty_ids(3000)]}
    assert not check.errors and set(split.findings) <= {'boxes_without_area', 'unused_categories'}
    assert split.sizes == {'640x480': 120, '640x427': 60, '480x640': 60, '500x375': 60}


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
    check = check_coco(str(tmp_path), ('train2017',), masks=True, pixels=False)
    assert (check.splits[0].images, check.splits[0].annotations) == (IMAGES, ANNOTATIONS)
    assert check.splits[0].findings['boxes_without_area']['count'] == 2


@pytest.fixture
def data(tmp_path):
    contents = [make_coco(tmp_path, images=4, split='train2017'),
                make_coco(tmp_path, images=3, split='val2017', seed=1)]
    return tmp_path, contents


def test_a_sound_data_set_has_counts_and_no_errors(data):
    root, _ = data
    check = check_coco(str(root), masks=True)
    assert [split.images for split in check.splits] == [4, 3]
    assert [split.categories for split in check.splits] == [
        {'colour 3': 4, 'colour 7': 4}, {'colour 3': 3, 'colour 7': 3}]
    assert not check.errors and not check.duplicates
    assert json.loads(json.dumps(check.as_dict()))['splits'][0]['sizes'] == {'112x96': 4}


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
    check = check_coco(str(root), masks=True)
    split, other = check.splits
    assert split.missing == ['10.png'] and '1 of 4 images have no file: 10.png' in check.errors[0]
    assert [name.split()[0] for name in split.unreadable] == ['11.png']
    assert {kind: found['examples'] for kind, found in split.findings.items()} == {
        'boxes_without_area': ['annotation 8'], 'size_mismatches': ['12.png']}
    assert check.duplicates == [('11.png', '13.png')]
    assert other.findings['unknown_unused']['examples'] == ['colour 8'] and not other.errors
    assert len(check.errors) == 1 and any('also in train2017: 11.png' in line for line in check.warnings)


def test_validation_may_lack_objects_and_decoding_finds_images_of_32_bits(data):
    root, (_, (val, path)) = data
    path.write_text(json.dumps({**val, 'annotations': []}))
    Image.open(root / 'val2017' / '11.png').convert('I').save(root / 'val2017' / '11.png', 'TIFF')
    check = check_coco(str(root), decode=True)
    assert not check.errors and 'no_objects' in check.splits[1].findings
    name, = check.splits[1].unreadable
    assert name.startswith('11.png (') and 'its pixels have 32 bits' in name


def test_categories_of_one_name_are_counted_each(data):
    root, ((train, path), _) = data
    for entry in train['categories']:
        entry['name'] = 'colour'
    path.write_text(json.dumps(train))
    assert check_coco(str(root), ('train2017',)).splits[0].categories == {'colour (3)': 4, 'colour (7)': 4}


def test_files_that_cannot_be_used_are_errors_of_the_check(data):
    root, (_, (val, path)) = data
    val['annotations'][0]['category_id'] = 99
    path.write_text(json.dumps(val))
    check = check_coco(str(root))
    assert len(check.errors) == 1 and 'annotation 1 has category 99, which is not listed' in check.errors[0]
    (root / 'annotations' / 'instances_train2017.json').unlink()
    assert 'instances_train2017.json is missing' in check_coco(str(root)).errors[0]


def test_the_command_shows_and_writes_the_check_and_draws_objects_by_category(data, capsys):
    root, _ = data
    with pytest.raises(SystemExit) as ended:
        main(['--coco', '--data-dir', str(root), '--json', str(root / 'c.json'), '--picture', str(root / 'c.png')])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and printed.endswith('0 errors, 2 warnings.\n')
    assert re.search(r'objects of each category|objects of each class', printed)
    assert re.search(r'colour 7 +4 +3\n', printed) and 'have fewer than 10 objects: colour 3, colour 7' in printed
    report = json.loads((root / 'c.json').read_text())
    assert report['splits']['train2017']['classes'] == {'colour 3': 4, 'colour 7': 4}
    assert report['counted'] == 'objects' and report['splits']['val2017']['sizes'] == {'112x96': 3}
    assert Image.open(root / 'c.png').size[0] == 1200
    crops = ObjectCrops(check_coco(str(root)).annotations[0])
    centres = [image.getpixel((image.width // 2, image.height // 2)) for image, label in crops if label == 1]
    assert crops.class_names[1] == 'colour 7' and centres == [COLOURS[7]] * 4  # drawn above the others
    (root / 'val2017' / '10.png').unlink()
    with pytest.raises(SystemExit) as ended:
        main(['--coco', '--data-dir', str(root)])
    assert ended.value.code == 1 and '1 of 3 images have no file: 10.png' in capsys.readouterr().out
