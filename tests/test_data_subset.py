"""Training on a few images of each class."""
import tarfile
from collections import Counter

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset
from train_helpers import arguments, error_line, make_image_folder, train

from gradaug_timm.data import class_balanced, create_dataset, stratified
from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.outputs.run_json import read_record
from gradaug_timm.training.prepare import prepare
from gradaug_timm.training.processes import start_process

LABELS = [0, 1, 2] * 20 + [2] * 30


class Labelled(Dataset):
    transform = None
    targets = LABELS

    def __getitem__(self, index):
        return (self.transform or str)(index), self.targets[index]

    def __len__(self):
        return len(self.targets)


def test_every_class_gets_as_many_images():
    subset = class_balanced(Labelled(), 7, seed=3)
    assert Counter(label for _, label in subset) == {0: 7, 1: 7, 2: 7}
    assert len({image for image, _ in subset}) == 21


def test_the_images_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = class_balanced(Labelled(), 5, seed=3).indices
    torch.manual_seed(2)
    assert class_balanced(Labelled(), 5, seed=3).indices == first
    assert class_balanced(Labelled(), 5, seed=4).indices != first


def test_a_transform_reaches_the_images():
    subset = class_balanced(Labelled(), 1, seed=0)
    subset.transform = lambda index: -index
    assert [image for image, _ in subset] == [-index for index in subset.indices] and subset.transform(2) == -2


def test_a_tar_file_lists_its_labels(tmp_path):
    folder = make_image_folder(tmp_path / 'data', images=4, splits=('train',))
    with tarfile.open(tmp_path / 'train.tar', 'w') as tar:
        tar.add(folder / 'train', arcname='.')
    subset = class_balanced(create_dataset('', str(tmp_path / 'train.tar'), 'train'), 3, seed=0)
    assert Counter(label for _, label in subset) == {0: 3, 1: 3}


def test_a_data_set_without_a_list_of_labels_is_refused():
    with pytest.raises(ValueError, match=r'--labels-per-class 1 needs a data set that lists its labels: image folders'):
        class_balanced(TensorDataset(torch.zeros(3)), 1, seed=0)


def test_training_reads_the_chosen_images_of_a_folder(tmp_path):
    data = make_image_folder(tmp_path / 'data', images=5)
    argv = arguments(data, tmp_path, labels_per_class=2, batch_size=2, reflect_pad=2, no_aug=None)
    run = prepare(parse_arguments(build_parser(), argv)[0], '', start_process('cpu'))
    train = run.loaders.train
    assert len(train) == 2 and len(run.loaders.validation.dataset) == 10
    assert Counter(label for _, labels in train for label in labels.tolist()) == {0: 2, 1: 2}
    assert next(iter(train))[0].shape == (2, 3, 16, 16)


def test_more_images_than_a_class_has_are_refused(capsys, tmp_path):
    data = make_image_folder(tmp_path / 'data', images=3)
    error = error_line(capsys, arguments(data, tmp_path, labels_per_class=4))
    assert '--labels-per-class 4 is more than the 3 images of class 0' in error


@pytest.mark.parametrize('fraction, counts', [
    (1, {0: 20, 1: 20, 2: 50}), (0.5, {0: 10, 1: 10, 2: 25}), (0.11, {0: 2, 1: 2, 2: 6}), (0.001, {0: 1, 1: 1, 2: 1}),
])
def test_a_share_of_each_class_is_rounded_and_never_empty(fraction, counts):
    subset = stratified(Labelled(), fraction, seed=3)
    assert Counter(label for _, label in subset) == counts
    assert len(set(subset.indices)) == len(subset) and subset.indices == sorted(subset.indices)


def test_a_smaller_share_is_a_part_of_a_larger_one_of_the_same_seed():
    shares = [set(stratified(Labelled(), fraction, seed=3).indices) for fraction in (0.1, 0.3, 0.9)]
    assert shares[0] < shares[1] < shares[2]
    assert set(stratified(Labelled(), 0.3, seed=4).indices) != shares[1]


def test_training_reads_the_share_and_says_so_in_its_record(tmp_path):
    data = make_image_folder(tmp_path / 'data', images=8)
    folder = train(data, tmp_path, train_fraction=0.25, batch_size=2)
    assert read_record(folder)['training_images'] == 4


@pytest.mark.parametrize('flags, wanted', [
    (dict(train_fraction=0), '--train-fraction: \'0\' must be a number above 0 and at most 1'),
    (dict(train_fraction=1.5), '\'1.5\' must be a number above 0 and at most 1'),
    (dict(train_fraction=0.5, labels_per_class=1), '--labels-per-class and --train-fraction exclude each other'),
    (dict(train_fraction=0.5, task='multilabel'), '--train-fraction needs one label per image'),
])
def test_a_share_that_has_no_meaning_is_refused(capsys, tmp_path, flags, wanted):
    assert wanted in error_line(capsys, arguments(make_image_folder(tmp_path / 'data'), tmp_path, **flags))
