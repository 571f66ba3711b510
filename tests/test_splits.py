"""Splits of folders, and parts of them: what is trained on is not validated on."""
import tarfile
from collections import Counter
from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, QMNIST
from train_helpers import arguments, error_line, make_image_folder, train

from gradaug_timm import EvaluationSettings
from gradaug_timm.data import check_labels, create_dataset, stratified
from gradaug_timm.data.factory import check_parts
from gradaug_timm.data.slices import Slice, parse_split, sliced, spread
from gradaug_timm.evaluation.loading import open_split


def files(dataset):
    return {dataset.filename(index, absolute=True) for index in range(len(dataset))}


def by_class(dataset):
    return dict(Counter(label for _, label in dataset))


@pytest.mark.parametrize('name', ['ImageFolder', 'imagenet', 'some/name', 'torch/image_folder', 'torch/folder'])
def test_a_name_that_is_read_from_folders_needs_the_folder_of_each_split(name, tmp_path, capsys):
    data = make_image_folder(tmp_path / 'data', splits=['train'])
    line = error_line(capsys, arguments(data, tmp_path / 'output', dataset=name))
    assert 'has no folder for split \'validation\'' in line and 'use --val-split "" to train without validation' in line
    settings = EvaluationSettings(data_dir=str(data), dataset=name)
    with pytest.raises(ValueError, match='--split validation does not exist'):
        open_split(settings, 'validation', {'input_size': (3, 16, 16)}, num_classes=2)


def test_a_name_without_prefix_and_folder_asks_for_one_of_them(tmp_path, capsys):
    line = error_line(capsys, arguments(None, tmp_path, dataset='cifar10', data_dir=None))
    assert '--dataset cifar10 has no prefix of a reader' in line


def test_parts_of_a_folder_share_no_image_and_have_all_of_them_of_each_class(tmp_path):
    root = str(make_image_folder(tmp_path, images=10, splits=['train'], classes='abc'))
    whole, first, second = (create_dataset('', root, split) for split in ('train', 'train[:80%]', 'train[80%:]'))
    assert files(first) | files(second) == files(whole) and not files(first) & files(second)
    assert by_class(first) == {0: 8, 1: 8, 2: 8} and by_class(second) == {0: 2, 1: 2, 2: 2}
    assert files(create_dataset('', root, 'train[:80%]')) == files(first)
    assert len(create_dataset('', root, 'train[3:9]')) == 6 and len(create_dataset('', root, 'train[-9:]')) == 9
    assert by_class(create_dataset('', root, 'train[:6]')) == {0: 2, 1: 2, 2: 2}
    assert by_class(stratified(first, .5, seed=0)) == {0: 4, 1: 4, 2: 4}


@pytest.mark.parametrize('counts', [[7, 1, 30], [5], [2, 2, 2, 3]])
def test_every_first_part_has_each_class_within_one_image_of_its_share(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = spread(labels)
    assert sorted(order) == [*range(len(labels))]
    for end in range(len(labels) + 1):
        found = np.bincount(labels[order[:end]], minlength=len(counts))
        assert (abs(found - end / len(labels) * np.array(counts)) <= 1 + 1e-9).all()


def test_parts_of_tar_files_and_of_torchvision_data_sets_are_taken(tmp_path, monkeypatch, caplog):
    root = make_image_folder(tmp_path / 'images', images=5, splits=['train'])
    with tarfile.open(tmp_path / 'train.tar', 'w') as tar:
        tar.add(root / 'train', '.')
    assert by_class(create_dataset('', str(tmp_path / 'train.tar'), 'train[:40%]')) == {0: 2, 1: 2}

    def load(self, root, train=True, transform=None, target_transform=None, download=False):
        self.train, self.transform, self.target_transform = train, transform, target_transform
        self.data, self.targets = np.zeros((10, 32, 32, 3), np.uint8), [0, 1] * 5

    monkeypatch.setattr(CIFAR10, '__init__', load)
    part = create_dataset('torch/cifar10', str(tmp_path), 'train[:40%]')
    assert by_class(part) == {0: 2, 1: 2} and part.dataset.train  # it was the test split at a name unknown to timm

    def load_rows(self, root, what=None, **kwargs):
        load(self, root)
        self.data = torch.zeros(10, 28, 28, dtype=torch.uint8)
        self.targets, self.compat = torch.tensor([[label % 5, 7, label] for label in range(10)]), True

    monkeypatch.setattr(QMNIST, '__init__', load_rows)
    assert by_class(create_dataset('torch/qmnist', str(tmp_path), 'train[:50%]')) == dict.fromkeys(range(5), 1)
    check_labels(create_dataset('torch/qmnist', str(tmp_path), 'train'), 10)
    assert 'none of' not in caplog.text  # all classes are there
    with pytest.raises(ValueError, match="torch/cifar10 has no split 'trian'"):
        create_dataset('torch/cifar10', str(tmp_path), 'trian')


def test_class_folders_without_folders_of_splits_are_split_by_parts(tmp_path):
    data = make_image_folder(tmp_path / 'data', images=10, splits=[''])
    run = train(data, tmp_path / 'output', train_split='all[:80%]', val_split='all[80%:]', batch_size=8)
    assert (run / 'last.pth.tar').exists()
    settings = EvaluationSettings(data_dir=str(data))
    assert len(open_split(settings, 'all[80%:]', {'input_size': (3, 16, 16)}, num_classes=2)) == 4


@pytest.mark.parametrize(('train_split', 'val_split', 'message'), [
    ('train[:80%]', 'train[70%:]', '2 of 6 validation images are training images'),
    ('train', 'train[80%:]', '4 of 4 validation images are training images'),
    ('training[:80%]', 'train[:10%]', '2 of 2 validation images are training images'),
    ('train[:80]%', 'train[80%:]', 'is written NAME[FROM:TO]'),
    ('train[5]', 'train[80%:]', '--labels-per-class N takes N images of each class'),
    ('train[:80%]', 'train[80%:]+train[:5%]', 'is written NAME[FROM:TO]'),
    ('train[:80%]', 'train[100%:]', "split 'train[100%:]' has none of the 20 images"),
])
def test_parts_that_overlap_or_are_none_end_in_one_line(train_split, val_split, message, tmp_path, capsys):
    data = make_image_folder(tmp_path / 'data', images=10, splits=['train'])
    argv = arguments(data, tmp_path / 'output', train_split=train_split, val_split=val_split)
    assert message in error_line(capsys, argv)


def test_a_place_counted_from_the_end_is_the_same_place_from_the_start():
    for images, share in product(range(1, 12), range(0, 101, 10)):
        start, end = (Slice('', bound, '').bounds(images)[0] for bound in (f'{share}%', f'-{100 - share}%'))
        assert start == end
        assert Slice('', f'-{min(share, images)}', '').bounds(images)[0] == images - min(share, images)


@pytest.mark.parametrize(('train_split', 'val_split', 'shared'), [
    ('train', 'train[80%:]', True), ('train[:80%]', 'train[70%:]', True), ('train[:80%]', 'train[-1000:]', False),
    ('train[:1000]', 'train[900:2000]', True), ('train[:80%]', 'train[80%:]', False), ('train', 'validation', False),
    ('train[:80%]', 'validation[:90%]', False), ('train[:10%]+train[90%:]', 'train', False)])
def test_parts_that_other_readers_take_are_compared_as_far_as_possible(train_split, val_split, shared):
    with pytest.raises(ValueError, match=r'^validation images are training images') if shared else nullcontext():
        check_parts('hfds/any/name', None, (train_split, val_split), [], [])


def test_the_same_split_twice_is_warned_of(tmp_path, caplog):
    root = str(make_image_folder(tmp_path, splits=['train']))
    same = [create_dataset('', root, 'train') for _ in range(2)]
    check_parts('', root, ('train', 'train'), *same)
    assert '8 of 8 validation images are training images' in caplog.text
    caplog.clear()
    check_parts('hfds/any/name', None, ('train', 'train'), *same)
    assert 'validation images are training images: --train-split train and' in caplog.text


def test_a_class_that_a_part_lacks_is_named(tmp_path, caplog):
    root = make_image_folder(tmp_path, images=10, splits=['train'])
    (root / 'train' / 'rare').mkdir()
    Image.new('RGB', (16, 16)).save(root / 'train' / 'rare' / '0.png')
    create_dataset('', str(root), 'train[90%:]')
    assert 'has 2 of 21 images, and none of rare' in caplog.text
    caplog.clear()
    create_dataset('', str(root), 'train[90%:]', checked=False)  # the data check, which tells it by itself
    assert not caplog.text


def test_a_part_without_known_labels_is_refused():
    with pytest.raises(ValueError, match='needs a data set that lists its labels'):
        sliced(range(4), parse_split('train[:2]')[1])
