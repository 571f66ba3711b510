"""Classes are compared by name, not by the order of folders."""
import re
import unicodedata

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import ImageDataset, ImageNetInfo, MultiLabelTarget, create_transform
from torch.nn import functional as F
from train_helpers import arguments, error_line, read_summary, train

from gradaug_timm import EvaluationSettings, evaluate, open_trained
from gradaug_timm.data import class_names, create_dataset
from gradaug_timm.data.by_name import use_labels_of
from gradaug_timm.evaluation.classes import match_classes
from gradaug_timm.evaluation.trained import Trained
from gradaug_timm.explain.main import _find_class
from gradaug_timm.extraction.main import main as extract

LEVELS = {'black': 20, 'grey': 120, 'white': 230}


class ByBrightness(torch.nn.Module):
    """A network that knows three grey levels, in the order of `names`."""

    def __init__(self, names=tuple(LEVELS)):
        super().__init__()
        self.num_classes = len(names)
        self.register_buffer('levels', torch.tensor([LEVELS[name] / 255 for name in names]))

    def forward(self, images):
        return -100 * (images.mean((1, 2, 3))[:, None] - self.levels) ** 2


def write_levels(root, names, *, images=2, folder_of=str):
    for name in names:
        (root / folder_of(name)).mkdir(parents=True)
        for index in range(images):
            pixels = np.full((8, 8, 3), LEVELS[name] + index, np.uint8)
            Image.fromarray(pixels).save(root / folder_of(name) / f'{index}.png')
    return root


def trained_on(names, class_names=None):
    config = dict(input_size=(3, 8, 8), mean=(0., 0., 0.), std=(1., 1., 1.), interpolation='bilinear', crop_pct=1.,
                  crop_mode='center')
    return Trained(ByBrightness(names), config, 'levels', class_names=class_names)


def top1(folder, trained, **settings):
    fixed = dict(data_dir=str(folder), workers=0, device='cpu', mean=(0.,) * 3, std=(1.,) * 3)
    row, = evaluate(EvaluationSettings(**fixed, **settings), trained)
    return row['top1']


def test_a_folder_that_lacks_a_class_is_mapped_by_name(tmp_path, caplog):
    folder = write_levels(tmp_path / 'data', ['black', 'white'])
    assert top1(folder, trained_on(tuple(LEVELS))) == 50  # the fault: white is taken for grey
    assert '3 classes' in caplog.text and 'has 2' in caplog.text
    assert top1(folder, trained_on(tuple(LEVELS), tuple(LEVELS))) == 100


def test_an_empty_class_folder_is_a_class_that_lacks_images(tmp_path):
    folder = write_levels(tmp_path / 'data', ['black', 'white'])
    (folder / 'grey').mkdir()
    assert top1(folder, trained_on(tuple(LEVELS), tuple(LEVELS))) == 100
    with pytest.raises(ValueError, match='class folders without images: grey; fill or delete them'):
        top1(folder, trained_on(tuple(LEVELS)))  # whose names are unknown


def test_the_order_of_training_counts(tmp_path):
    folder = write_levels(tmp_path / 'data', LEVELS)
    order = ('white', 'black', 'grey')
    assert top1(folder, trained_on(order)) == 0
    assert top1(folder, trained_on(order, order)) == 100
    (tmp_path / 'map.txt').write_text('grey\nwhite\nblack\n')
    assert top1(folder, trained_on(order, order), class_map=str(tmp_path / 'map.txt')) == 100


def test_unknown_classes_are_named(tmp_path):
    folder = write_levels(tmp_path / 'data', LEVELS, folder_of={'black': 'black', 'grey': 'gray', 'white': 'pale'}.get)
    with pytest.raises(ValueError, match='that the network does not have: gray, pale; it has black, grey, white'):
        top1(folder, trained_on(tuple(LEVELS), tuple(LEVELS)))
    (tmp_path / 'map.txt').write_text('black\ngray\npale\n')
    assert top1(folder, trained_on(tuple(LEVELS), tuple(LEVELS)), class_map=str(tmp_path / 'map.txt')) == 100
    (tmp_path / 'map.txt').write_text('gray\nblack\npale\n')
    with pytest.raises(ValueError, match='does not have: gray, pale'):
        top1(folder, trained_on(tuple(LEVELS), tuple(LEVELS)), class_map=str(tmp_path / 'map.txt'))


def test_data_without_names_keep_their_labels():
    dataset = ImageDataset('', reader=type('Reader', (), {'class_to_idx': {}})())
    match_classes(trained_on(tuple(LEVELS), tuple(LEVELS)), dataset, EvaluationSettings(), 'validation')
    assert dataset.target_transform is None


def test_accents_match_however_a_file_system_writes_them(tmp_path):
    names = [unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD')]
    assert names[0] != names[1]
    write_levels(tmp_path, ['black'], folder_of=lambda _: names[1])
    dataset = ImageDataset(str(tmp_path))
    use_labels_of(('bar', names[0]), dataset, what='it', known_to='training')
    assert dataset[0][1] == 1


def test_several_labels_of_an_image_are_mapped():
    class Reader:
        class_to_idx = {'cat': 0, 'dog': 1}

    for given, dense, expected in (([1], False, [0, 0, 1]), ([1, 0], True, [1, 0, 0])):
        dataset = ImageDataset('', reader=Reader(), target_transform=MultiLabelTarget(3, dense=dense))
        use_labels_of(('cat', 'bird', 'dog'), dataset, what='it', known_to='training', dense=dense)
        assert dataset.target_transform(given).tolist() == expected
        assert class_names(dataset) == ('cat', 'bird', 'dog')


def test_synsets_are_the_classes_of_a_network_of_imagenet():
    synsets = ImageNetInfo('imagenet-1k').label_names()

    class Reader:
        def __init__(self, names):
            self.class_to_idx = {name: label for label, name in enumerate(names)}

    network = timm.create_model('resnet20_cifar', num_classes=1000)
    trained = Trained(network, {}, 'resnet20_cifar')
    imagenette = [synsets[label] for label in (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)]
    dataset = ImageDataset('', reader=Reader(imagenette))
    match_classes(trained, dataset, EvaluationSettings(data_dir='x'), 'validation')
    assert [dataset.target_transform(label) for label in (1, 9)] == [217, 701]
    among = ImageDataset('', reader=Reader(imagenette))
    match_classes(trained, among, EvaluationSettings(data_dir='x'), 'validation', valid_labels=[1, 0, 701, 217, *range(
        480, 580)])
    assert [among.target_transform(label) for label in (0, 1, 9)] == [1, 3, 2]
    unknown = ImageDataset('', reader=Reader(['n01440764', 'n99999999']))
    with pytest.raises(ValueError, match='n99999999'):
        match_classes(trained, unknown, EvaluationSettings(data_dir='x'), 'validation')
    numbered = ImageDataset('', reader=Reader(['0', '1']))
    match_classes(trained, numbered, EvaluationSettings(data_dir='x'), 'validation')
    assert [numbered.target_transform(label) for label in (0, 1)] == [0, 1]


def test_training_validates_by_name_a_folder_that_lacks_a_class(tmp_path):
    data = tmp_path / 'data'
    write_levels(data / 'train', LEVELS, images=4)
    write_levels(data / 'validation', ['black', 'white'], images=4)
    (data / 'validation' / 'grey').mkdir()  # as in the tracker of timm, 957
    run = train(data, tmp_path / 'output', num_classes=3, batch_size=4, img_size=8)
    trained = open_trained(run / 'last.pth.tar')
    transform = create_transform(**{name: trained.config[name] for name in (
        'input_size', 'interpolation', 'mean', 'std', 'crop_pct', 'crop_mode')})
    losses = []
    for path in sorted((data / 'validation').glob('*/*.png')):
        label = sorted(each.name for each in (data / 'train').iterdir()).index(path.parent.name)
        losses.append(F.cross_entropy(trained.network(transform(Image.open(path))[None]), torch.tensor([label])).item())
    assert float(read_summary(run)[-1]['eval_loss']) == pytest.approx(np.mean(losses), abs=1e-4)


def test_a_resumed_run_has_the_same_classes(tmp_path, capsys):
    data = write_levels(tmp_path / 'data' / 'train', ['black', 'white'], images=8).parent
    write_levels(data / 'validation', ['black', 'white'], images=4)
    run = train(data, tmp_path / 'output')
    for split in ('train', 'validation'):
        (data / split / 'black').rename(data / split / 'xblack')
    argv = arguments(data, tmp_path / 'output', epochs=2, resume=run / 'last.pth.tar', experiment='b')
    assert 'was trained with other classes: black in place of xblack' in error_line(capsys, argv)
    with pytest.raises(SystemExit):
        extract([str(run / 'last.pth.tar'), '--width', '.5', '--output', str(tmp_path / 'small.safetensors'),
                 '--data-dir', str(data), '--workers', '0', '--device', 'cpu'])
    assert re.search('does not have: xblack; it has black, white', capsys.readouterr().err)


def test_a_class_is_drawn_by_its_name():
    trained = trained_on(('black', 'white'), ('7', 'white'))
    assert [_find_class(text, trained) for text in ('white', '7', '0')] == [1, 0, 0]
    with pytest.raises(ValueError, match=r'--class blue must be a number below 2.* or one of 7, white'):
        _find_class('blue', trained)


def test_a_name_that_no_image_has_is_no_unknown_class(tmp_path):
    folder = write_levels(tmp_path / 'data', ['black', 'white'])
    (folder / 'fox').mkdir()
    assert top1(folder, trained_on(tuple(LEVELS), class_names=tuple(LEVELS)), dataset='torch/image_folder') == 100
    (folder / 'black' / '0.png').rename(folder / 'fox' / '0.png')
    with pytest.raises(ValueError, match='classes that the network does not have: fox'):
        top1(folder, trained_on(tuple(LEVELS), class_names=tuple(LEVELS)), dataset='torch/image_folder')


def test_folders_that_are_numbers_are_the_numbers_of_imagenets_classes(tmp_path):
    names = tuple(ImageNetInfo('imagenet-1k').label_names())
    for known in (None, names):
        for reader in ('', 'torch/image_folder'):  # of which one sorts 10 before 2
            folder = write_levels(tmp_path / f'{known is None}{len(reader)}', ['grey', 'black', 'white'],
                                  folder_of=dict(grey='2', black='10', white='999').get)
            dataset, network = create_dataset(reader, str(folder)), ByBrightness()
            if known is None:  # no network of ImageNet
                match_classes(Trained(network, {}, 'x'), dataset, EvaluationSettings(), 'val')
                assert sorted({label for _, label in dataset}) == [0, 1, 2]
            network.num_classes = 1000
            match_classes(Trained(network, {}, 'x', class_names=known), dataset, EvaluationSettings(), 'val')
            assert sorted({label for _, label in dataset}) == [2, 10, 999]


def test_outputs_that_count_are_compared_with_all_folders_of_the_training(tmp_path):
    folder, valid = write_levels(tmp_path / 'data', list(LEVELS)), tmp_path / 'valid.txt'
    network = trained_on(tuple(LEVELS), class_names=tuple(LEVELS))
    valid.write_text('2\n0\n1\n')
    assert top1(folder, network, valid_labels=str(valid)) == 100
    valid.write_text('2\n0\n')
    with pytest.raises(ValueError, match=r'valid\.txt lacks grey, which the data set has'):
        top1(folder, network, valid_labels=str(valid))
