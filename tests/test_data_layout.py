"""Folders and files in image folders that are no classes and no images, and kinds of images that are read."""
import io
import logging
import os
import tarfile

import pytest
import timm.data
from PIL import Image
from timm.data import create_dataset as create_timm_dataset
from train_helpers import arguments, error_line, train

from gradaug_timm.data import check_splits, class_names, create_dataset
from gradaug_timm.data.folders import image_extensions
from gradaug_timm.data.tables import check_cache_files, stored_rows
from gradaug_timm.explain.main import find_images

KINDS = ('', 'torch/image_folder')


def image(path, color=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), (color, 0, 0)).save(path)


def make_folder(root, *, endings=('.png',), classes=('a', 'b'), splits=('train', 'validation')):
    for split in splits:
        for label, name in enumerate(classes):
            for index, ending in enumerate(endings):
                image(root / split / name / f'{index}{ending}', 100 * label)
    return root


def contents(dataset) -> list[tuple[str, int]]:
    """The name of each image below the split, and its label."""
    samples = dataset.samples if hasattr(dataset, 'samples') else dataset.reader.samples
    root = dataset.root if hasattr(dataset, 'samples') else dataset.reader.root
    return [(os.path.relpath(path, root), label) for path, label in samples]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('extra', [
    'a/.ipynb_checkpoints/0-checkpoint.png', '.ipynb_checkpoints/0-checkpoint.png', '.trash/c/0.png', 'a/._0.png',
    '__MACOSX/a/0.png', 'b/@eaDir/0.png/THUMB.png', 'a/.0.png'])
def test_hidden_files_and_folders_are_no_images_and_no_classes(tmp_path, caplog, kind, extra):
    root = make_folder(tmp_path / '.hidden' / 'data')  # above the data set, a hidden folder means nothing
    wanted = contents(create_dataset(kind, str(root), 'train'))
    assert wanted == [('a/0.png', 0), ('b/0.png', 1)]
    image(root / 'train' / extra)
    (root / 'train' / 'a' / 'Thumbs.db').write_bytes(b'no image')
    dataset = create_dataset(kind, str(root), 'train')
    assert contents(dataset) == wanted and class_names(dataset) == ('a', 'b') and not caplog.text


@pytest.mark.parametrize('packed', ['cats/._0.png', '._cats/0.png', '.git/x/0.png', './__MACOSX/cats/0.png'])
def test_hidden_files_in_tar_files_are_no_images(tmp_path, packed):
    file = io.BytesIO()
    Image.new('RGB', (8, 8)).save(file, 'png')
    with tarfile.open(tmp_path / 'train.tar', 'w') as tar:
        for name in (packed, './cats/0.png', './dogs/1.png'):
            info = tarfile.TarInfo(name)
            info.size = len(file.getvalue())
            tar.addfile(info, io.BytesIO(file.getvalue()))
    dataset = create_dataset('', str(tmp_path / 'train.tar'), 'train')
    assert [dataset[index][1] for index in range(len(dataset))] == [0, 1] and class_names(dataset) == ('cats', 'dogs')


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('endings', [('.bmp',), ('.jpg', '.bmp'), ('.webp', '.tif', '.gif'), ('.JPEG', '.PNG', '.Bmp')])
def test_every_kind_of_image_is_read_in_upper_and_lower_case(tmp_path, kind, endings):
    dataset = create_dataset(kind, str(make_folder(tmp_path, endings=endings)), 'train')
    assert len(dataset) == 2 * len(endings)
    assert [dataset[index][0].size for index in range(len(dataset))] == [(8, 8)] * len(dataset)


def test_extensions_of_timm_that_a_program_has_set_are_kept(tmp_path):
    root = make_folder(tmp_path, endings=('.png', '.jpg', '.bmp'))
    create_dataset('', str(root), 'train')
    before = timm.data.get_img_extensions()
    assert before == ('.png', '.jpg', '.jpeg'), 'timm itself is as it was'
    timm.data.set_img_extensions(['.bmp'])
    try:
        assert len(create_dataset('', str(root), 'train')) == 2 and timm.data.get_img_extensions() == ('.bmp',)
    finally:
        timm.data.set_img_extensions(before)


def test_an_input_key_of_extensions_limits_what_is_read_as_in_timm(tmp_path):
    root = make_folder(tmp_path, endings=('.png', '.jpg', '.bmp'))
    dataset = create_dataset('', str(root), 'train', input_key='.bmp;.jpg')
    assert len(dataset) == 4 == len(create_timm_dataset('', root=str(root), split='train', input_key='.bmp;.jpg'))
    with pytest.raises(ValueError, match='--input-key: image folders and tar files have no fields'):
        create_dataset('', str(root), 'train', input_key='img')


def test_the_order_and_labels_of_a_plain_folder_are_those_of_timm_and_torchvision(tmp_path):
    root = make_folder(tmp_path, endings=('.png', '.jpg', '.jpeg'), classes=('1', '2', '10'))
    for kind in KINDS:
        theirs = create_timm_dataset(kind, root=str(root), split='train')
        assert contents(create_dataset(kind, str(root), 'train')) == contents(theirs)


@pytest.mark.parametrize('kind', KINDS)
def test_files_that_are_not_read_are_counted_by_kind(tmp_path, caplog, kind):
    root = make_folder(tmp_path)
    for name in ('a/x.svg', 'a/y.svg', 'b/notes.TXT', 'b/raw'):
        (root / 'train' / name).write_text('nothing')
    create_dataset(kind, str(root), 'train')
    assert caplog.text.count('files that are not read: 2 .svg, 1 .txt, 1 without extension (such as a/x.svg)') == 1


@pytest.mark.parametrize('kind', KINDS)
def test_folders_that_a_class_map_does_not_name_are_named(tmp_path, caplog, kind):
    root = make_folder(tmp_path / 'data', classes=('a', 'b', 'c', 'd'))
    (root / 'train' / 'c' / 'x.svg').write_text('nothing')
    (tmp_path / 'map.txt').write_text('d\na\n')
    dataset = create_dataset(kind, str(root), 'train', class_map=str(tmp_path / 'map.txt'))
    assert contents(dataset) == [('a/0.png', 1), ('d/0.png', 0)]
    assert 'folders of images that --class-map does not name are left out: b, c' in caplog.text
    assert 'files that are not read: 1 .svg (such as c/x.svg)' in caplog.text


@pytest.mark.parametrize('kind', KINDS)
def test_images_beside_class_folders_are_no_class_and_are_named(tmp_path, caplog, kind):
    image(make_folder(tmp_path) / 'train' / 'cover.png')
    assert contents(create_dataset(kind, str(tmp_path), 'train')) == [('a/0.png', 0), ('b/0.png', 1)]
    assert 'images outside of class folders are not read: cover.png' in caplog.text


@pytest.mark.parametrize('kind', KINDS)
def test_a_class_folder_without_readable_images_is_refused_with_what_it_has(tmp_path, kind):
    (make_folder(tmp_path) / 'train' / 'c').mkdir()
    (tmp_path / 'train' / 'c' / '0.svg').write_text('nothing')
    with pytest.raises(ValueError, match=r'without images that are read \(they have 1 .svg\): c; fill or'):
        create_dataset(kind, str(tmp_path), 'train')


def test_a_folder_without_any_image_is_refused_with_what_it_has(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / '0.svg').write_text('nothing')
    with pytest.raises(ValueError, match=r'no images in class folders: .png, .*are read, found 1 .svg$'):
        create_dataset('', str(tmp_path), 'train')


def test_linked_class_folders_are_read_and_broken_links_are_refused(tmp_path):
    make_folder(tmp_path / 'store', classes=('a', 'b'))
    for name in 'ab':
        (tmp_path / 'train').mkdir(exist_ok=True)
        (tmp_path / 'train' / name).symlink_to(tmp_path / 'store' / 'train' / name)
    for kind in KINDS:
        assert contents(create_dataset(kind, str(tmp_path), 'train')) == [('a/0.png', 0), ('b/0.png', 1)]
    (tmp_path / 'train' / 'c').symlink_to(tmp_path / 'nowhere')
    for kind in KINDS:
        with pytest.raises(ValueError, match='links to folders or files that do not exist: c'):
            create_dataset(kind, str(tmp_path), 'train')


def test_equal_folders_in_all_classes_are_refused_with_the_data_set_that_reads_them(tmp_path, capsys):
    for split in ('train', 'validation'):
        for name in ('a', 'b'):
            image(tmp_path / split / name / 'images' / f'{name}.png')
    assert "train has one class, 'images', because classes are the innermost folders: a/images, b/images; if the " \
        'outermost folders are the classes, use --dataset torch/image_folder' in error_line(
            capsys, arguments(tmp_path, tmp_path / 'out'))
    dataset = create_dataset('torch/image_folder', str(tmp_path), 'train')
    assert class_names(dataset) == ('a', 'b') and [label for _, label in dataset.samples] == [0, 1]


def test_classes_in_several_folders_and_inside_of_classes_are_named(tmp_path, caplog):
    for name in ('left/cat/0', 'left/dog/0', 'right/cat/1', 'right/dog/1', 'right/dog/puppy/2'):
        image(tmp_path / f'{name}.png')
    dataset = create_dataset('', str(tmp_path), 'train')
    assert class_names(dataset) == ('cat', 'dog', 'puppy'), 'as in timm, folders may group classes'
    assert "2 of 3 classes are in several folders, such as 'cat' in left/cat, right/cat" in caplog.text
    assert 'folders inside of class folders are classes of their own: right/dog/puppy' in caplog.text


def test_training_shows_the_classes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    make_folder(tmp_path / 'data', endings=('.bmp', '.png'))
    train(tmp_path / 'data', tmp_path, batch_size=4, img_size=8)
    assert 'Classes: a, b.' in caplog.text


def test_explain_finds_all_kinds_of_images_but_no_hidden_ones(tmp_path):
    for name in ('a/1.gif', 'a/.ipynb_checkpoints/1.gif', 'b/2.TIF', 'b/._2.png'):
        image(tmp_path / name)
    assert [os.path.relpath(path, tmp_path) for path in find_images(str(tmp_path), 9)] == ['a/1.gif', 'b/2.TIF']


def test_extensions_are_those_that_pillow_can_open():
    found = {*image_extensions()}
    assert {'.png', '.jpg', '.jpeg', '.bmp', '.gif', '.tif'} <= found and '.pdf' not in found


def test_tables_that_map_has_cached_in_a_folder_of_datasets_are_refused(tmp_path):
    for split in ('train', 'validation'):
        (tmp_path / split).mkdir()
        (tmp_path / split / 'data-00000-of-00001.arrow').write_bytes(b'')
        (tmp_path / split / 'state.json').write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    check_cache_files(str(tmp_path))
    (tmp_path / 'train' / 'cache-cedeb8c81a30a3ef.arrow').write_bytes(b'')
    with pytest.raises(ValueError, match=r'1 tables that map or filter .* more rows: train/cache-cede.*; delete them'):
        create_dataset(f'hfds/{tmp_path}', None, 'train')


def test_the_rows_of_a_split_are_those_that_its_description_says(tmp_path):
    assert stored_rows(str(tmp_path), 'train') is None
    (tmp_path / 'dataset_info.json').write_text('{"splits": {"train": {"num_examples": 12}}}')
    assert stored_rows(str(tmp_path), 'train') == 12 and stored_rows(str(tmp_path), 'test') is None


def test_rows_that_map_has_doubled_are_found_where_datasets_reads_them(tmp_path, monkeypatch):
    datasets = pytest.importorskip('datasets')
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', str(tmp_path / 'cache'))
    features = datasets.Features({'image': datasets.Image(), 'label': datasets.ClassLabel(names=['a', 'b'])})
    rows = {'image': [Image.new('RGB', (8, 8))] * 4, 'label': [0, 1, 0, 1]}
    split = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(train=split, validation=split).save_to_disk(tmp_path / 'data')
    name = f'hfds/{tmp_path / "data"}'
    assert len(create_dataset(name, str(tmp_path / 'cache'), 'train')) == 4
    datasets.load_from_disk(tmp_path / 'data')['train'].map(lambda row: {'label': 1 - row['label']})
    assert len(create_dataset(name, str(tmp_path / 'cache'), 'train', checked=False)) == 8, 'datasets doubles the rows'
    with pytest.raises(ValueError, match='1 tables that map or filter of datasets has cached'):
        create_dataset(name, str(tmp_path / 'cache'), 'train')


@pytest.mark.parametrize(('places', 'root', 'hint'), [
    (['data/data/train/a', 'data/data/val/a'], 'data', 'use --data-dir data/data, which has it'),
    (['data/train/a', 'data/train/b'], 'data/train', 'seems to be one of the splits: use --data-dir data'),
    (['data/Train/a', 'data/Val/a'], 'data', 'use --train-split Train'),
    (['data/train/a', 'data/test/a'], 'data', 'use --val-split test, or ""'),
    (['data/a', 'data/b'], 'data', 'use --train-split "train[:80%]" --val-split "train[80%:]"'),
    (['data/train/a', 'data/other/a'], 'data', 'use --val-split "" to train without validation'),
])
def test_a_missing_split_is_refused_with_what_fits(tmp_path, monkeypatch, places, root, hint):
    monkeypatch.chdir(tmp_path)
    for place in places:
        image(tmp_path / place / '0.png')
    with pytest.raises(ValueError, match='has no folder for split') as error:
        check_splits(root, 'train', 'validation')
    assert str(error.value).endswith(hint) or hint in str(error.value).split('; ')[-1]


def test_images_without_class_folders_are_counted(tmp_path):
    image(make_folder(tmp_path, splits=['train']) / 'validation' / '0.JPEG')
    with pytest.raises(ValueError, match=r'has no class folders; .*; it has 1 images, which must be in a folder for'):
        create_dataset('', str(tmp_path), 'validation')
