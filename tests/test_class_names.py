"""Names of classes: found in every kind of data, kept with networks."""
import json
import tarfile
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from timm.data import ImageDataset
from torchvision.datasets import CIFAR10, ImageFolder
from train_helpers import make_image_folder, train

from gradaug_timm import Subnet, load_extracted, open_trained, save_extracted
from gradaug_timm.data import class_balanced, class_names, create_dataset, hold
from gradaug_timm.data.digits import Digits
from gradaug_timm.data.keyed import KeyedDataset
from gradaug_timm.data.readable import ReadableDataset
from gradaug_timm.export.main import main as export
from gradaug_timm.extraction.main import main as extract

NUMBERED = tuple(map(str, range(1, 13)))


class ListReader:
    """A reader with the attributes of timm's readers of tables."""

    def __init__(self, class_to_idx: dict, source_names: dict | None = None):
        self.class_to_idx, self._source_names = class_to_idx, source_names or {}

    def __len__(self) -> int:
        return 0


def numbered_folder(root: Path) -> Path:
    for name in NUMBERED:
        (root / 'train' / name).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(root / 'train' / name / 'a.png')
    return root


def test_names_are_in_the_order_of_the_reader_that_gives_the_labels(tmp_path):
    root = str(numbered_folder(tmp_path))
    ours = create_dataset('', root, 'train')
    theirs = create_dataset('torch/image_folder', root, 'train')
    for dataset, expected in ((ours, NUMBERED), (theirs, tuple(sorted(NUMBERED)))):
        assert class_names(dataset) == expected
    assert [Path(ours.filename(index)).parent.name for index in range(12)] == [
        class_names(ours)[ours[index][1]] for index in range(12)]
    assert [Path(path).parent.name for path, _ in theirs.samples] == [
        class_names(theirs)[label] for _, label in theirs.samples]


def test_names_of_a_class_map_have_its_labels(tmp_path):
    root = make_image_folder(tmp_path, splits=['train'], classes='abc')
    (root / 'map.txt').write_text('c\na\nb\n')
    assert class_names(create_dataset('', str(root), 'train', class_map=str(root / 'map.txt'))) == ('c', 'a', 'b')
    merged = ImageDataset(str(root / 'train'), class_map={'a': 0, 'b': 0, 'c': 2})
    assert class_names(merged) == ('a + b', '', 'c')


def test_names_of_tar_files_are_known(tmp_path):
    root = make_image_folder(tmp_path / 'images', splits=['train'])
    with tarfile.open(tmp_path / 'train.tar', 'w') as tar:
        tar.add(root / 'train', '.')
    assert class_names(create_dataset('', str(tmp_path), 'train')) == ('a', 'b')


def test_names_of_tables_are_known():
    assert class_names(ImageDataset('', reader=ListReader({'cat': 0, 'dog': 1}))) == ('cat', 'dog')
    assert class_names(ImageDataset('', reader=ListReader({}))) is None
    by_number = ListReader({0: 1, 1: 0}, {0: 'cat', 1: 'dog'})  # timm takes class maps of numbers too
    assert class_names(ImageDataset('', reader=by_number)) == ('dog', 'cat')
    assert class_names(ImageDataset('', reader=ListReader({0: 1, 1: 0}))) is None


def test_names_of_torchvision_data_sets_are_known():
    cifar = CIFAR10.__new__(CIFAR10)
    cifar.classes, cifar.class_to_idx = ['airplane', 'bird'], {'airplane': 0, 'bird': 1}
    assert class_names(cifar) == ('airplane', 'bird')
    imagenet = ImageFolder.__new__(ImageFolder)  # torchvision gives words to labels, and 'crane' is two classes
    imagenet.wnids, imagenet.classes = ['n01', 'n02'], [('crane', 'bird'), ('crane', 'machine')]
    imagenet.class_to_idx = {'crane': 1, 'bird': 0, 'machine': 1}
    assert class_names(imagenet) == ('n01', 'n02')


def test_wrappers_keep_names(tmp_path):
    dataset = create_dataset('', str(make_image_folder(tmp_path, splits=['train'])), 'train')
    for wrapped in (class_balanced(dataset, 2, seed=0), KeyedDataset(ReadableDataset(dataset))):
        assert class_names(wrapped) == ('a', 'b')
    dataset.transform = lambda image: torch.zeros(3, 4, 4, dtype=torch.uint8).numpy()
    assert class_names(hold(dataset, device=torch.device('cpu'))) == ('a', 'b')
    assert Digits.classes == tuple('0123456789')


def test_names_travel_from_training_to_checkpoint_weights_extract_and_export(tmp_path):
    data = make_image_folder(tmp_path / 'data')
    run = train(data, tmp_path / 'output')
    for name in ('last.pth.tar', 'model_best.pth.tar', 'model_best.safetensors'):
        assert open_trained(run / name).class_names == ('a', 'b')
    with safe_open(run / 'model_best.safetensors', 'pt') as file:
        assert json.loads(file.metadata()['class_names']) == ['a', 'b']
    small = tmp_path / 'small.safetensors'
    extract([str(run / 'last.pth.tar'), '--width', '.5', '--output', str(small)])
    assert open_trained(small).class_names == ('a', 'b')
    assert load_extracted(small).pretrained_cfg['label_names'] == ['a', 'b']
    folder = tmp_path / 'exported'
    export([str(run / 'last.pth.tar'), '--to', str(folder)])
    assert json.loads((folder / 'config.json').read_text())['label_names'] == ['a', 'b']
    assert open_trained(folder).class_names == ('a', 'b')
    assert open_trained(folder, num_classes=3).class_names is None  # another head


def test_a_checkpoint_without_names_is_resumed_and_opened(tmp_path):
    data = make_image_folder(tmp_path / 'data')
    run = train(data, tmp_path / 'output')
    state = torch.load(run / 'last.pth.tar', weights_only=False)
    del state['class_names']
    old = tmp_path / 'old.pth.tar'
    torch.save(state, old)
    assert open_trained(old).class_names is None
    resumed = train(data, tmp_path / 'output', experiment='resumed', resume=old, epochs=2)
    assert open_trained(resumed / 'last.pth.tar').class_names == ('a', 'b')


def test_a_saved_sub_network_has_the_names_that_its_network_has(tmp_path):
    network = timm.create_model('gradaug_resnet20_cifar', num_classes=2)
    network.pretrained_cfg['num_classes'], network.pretrained_cfg['label_names'] = 2, ['a', 'b']
    save_extracted(network, Subnet(width=.5), tmp_path / 'own.safetensors')
    save_extracted(network, Subnet(width=.5), tmp_path / 'given.safetensors', class_names=['c', 'd'])
    assert open_trained(tmp_path / 'own.safetensors').class_names == ('a', 'b')
    assert open_trained(tmp_path / 'given.safetensors').class_names == ('c', 'd')


@pytest.mark.parametrize('written', [['a', 'b'], {'0': 'a', '1': 'b'}, {'1': 'b', '0': 'a'}])
def test_names_that_others_wrote_are_read(written, tmp_path):
    network = timm.create_model('resnet20_cifar', num_classes=2)
    timm.models.save_for_hf(network, tmp_path, model_config={'label_names': written})
    assert open_trained(tmp_path).class_names == ('a', 'b')


def test_label_names_in_another_order_than_the_training_are_refused(tmp_path, capsys):
    data = tmp_path / 'data'
    for split in ('train', 'validation'):
        for name in ('1', '2', '10'):
            (data / split / name).mkdir(parents=True)
            for index in range(3):
                Image.new('RGB', (16, 16)).save(data / split / name / f'{index}.png')
    run = train(data, tmp_path / 'output', num_classes=3)
    assert open_trained(run / 'last.pth.tar').class_names == ('1', '2', '10')  # timm's natural order
    (tmp_path / 'names.txt').write_text('1\n10\n2\n')
    argv = [str(run / 'last.pth.tar'), '--to', str(tmp_path / 'exported'), '--label-names', str(tmp_path / 'names.txt')]
    with pytest.raises(SystemExit):
        export(argv)
    assert 'in another order: line 2 is 10, and class 1 is 2' in capsys.readouterr().err
    (tmp_path / 'names.txt').write_text('one\ntwo\nten\n')
    export(argv)
    assert json.loads((tmp_path / 'exported' / 'config.json').read_text())['label_names'] == ['one', 'two', 'ten']
