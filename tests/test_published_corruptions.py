"""validate.py --corruptions-dir: CIFAR-10-C's arrays and ImageNet-C's folders, as they are published."""
import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from gradaug_timm.evaluation.main import main
from gradaug_timm.evaluation.published import CorruptedArray, find_corruption

IMAGES = 6


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Clean images, a network that says whether an image is bright, and arrays in which images change."""
    root = tmp_path_factory.mktemp('published')
    for label, name in enumerate(('bright', 'dark')):
        (root / 'validation' / name).mkdir(parents=True)
        for number in range(IMAGES // 2):
            Image.new('RGB', (32, 32), 3 * (220 - 200 * label,)).save(root / 'validation' / name / f'{number}.png')
    network = timm.create_model('resnet20_cifar', depth=8, num_classes=2).eval()
    clean = torch.stack([torch.full((3, 32, 32), value) for value in (220 / 255, 20 / 255)])
    mean, std = (torch.tensor(network.pretrained_cfg[name]).view(3, 1, 1) for name in ('mean', 'std'))
    with torch.no_grad():
        features = network.forward_head(network.forward_features((clean - mean) / std), pre_logits=True)
        direction = features[0] - features[1]
        head = network.get_classifier()
        head.weight.copy_(torch.stack((direction, -direction)))
        head.bias.copy_(torch.tensor([-1., 1.]) * (features.mean(0) @ direction))
    torch.save(network.state_dict(), root / 'network.pth')
    published = root / 'CIFAR-10-C'
    published.mkdir()
    labels = [0] * (IMAGES // 2) + [1] * (IMAGES // 2)
    rows = []
    for severity in range(1, 6):  # at severity s, s - 1 of the images are of the other kind
        rows += [20 if (label == 1) != (index < severity - 1) else 220 for index, label in enumerate(labels)]
    pixels = np.array(rows, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 32, 32, 3), dtype=np.uint8)
    np.save(published / 'fog.npy', pixels)
    np.save(published / 'blue_noise.npy', pixels)
    np.save(published / 'labels.npy', np.array(labels * 5))
    return root


def errors(folder, capsys, *flags) -> dict:
    capsys.readouterr()
    main(['--data-dir', str(folder), '--model', 'resnet20_cifar', '--model-kwargs', 'depth=8', '--num-classes', '2',
          '--checkpoint', str(folder / 'network.pth'), '--device', 'cpu', '-b', '4', '-j', '0', *map(str, flags)])
    row, = json.loads(capsys.readouterr().out.split('--result\n')[1])
    return {**row, 'by_severity': [each['error'] for each in row['errors'] if each['corruption'] != 'clean']}


@pytest.mark.parametrize('place', ['CIFAR-10-C', '.'])
@pytest.mark.parametrize('name', ['fog', 'blue_noise'])
def test_the_five_severities_of_an_array_are_read_in_their_order(folder, capsys, place, name):
    found = errors(folder, capsys, '--corruptions', name, '--corruptions-dir', folder / place)
    assert found['top1_err'] == 0
    assert found['by_severity'] == pytest.approx([100 * wrong / IMAGES for wrong in range(5)], abs=1e-3)
    assert found['corruptions'] == str(folder / place)


def test_labels_of_one_severity_serve_all(folder, tmp_path):
    for name in ('fog.npy', 'labels.npy'):
        array = np.load(folder / 'CIFAR-10-C' / name)
        np.save(tmp_path / name, array[:IMAGES] if name == 'labels.npy' else array)
    short, whole = (CorruptedArray(str(path / 'fog.npy'), 4) for path in (tmp_path, folder / 'CIFAR-10-C'))
    assert short.targets == whole.targets and len(short) == IMAGES
    assert np.asarray(short[1][0])[0, 0, 0] == np.load(tmp_path / 'fog.npy')[3 * IMAGES + 1, 0, 0, 0]


def test_downloads_of_imagenet_c_may_stay_in_their_folders(folder, tmp_path, capsys):
    for severity, value in ((1, 220), (2, 20)):
        for name in ('bright', 'dark'):
            target = tmp_path / 'weather' / 'fog' / str(severity) / name
            target.mkdir(parents=True)
            Image.new('RGB', (32, 32), 3 * (value,)).save(target / '0.png')
    found = errors(folder, capsys, '--corruptions', 'fog', '--severities', 1, 2, '--corruptions-dir', tmp_path)
    assert found['by_severity'] == [50, 50]


@pytest.mark.parametrize('file, array, words', [
    ('fog.npy', np.zeros((7, 32, 32, 3), np.uint8), 'five severities in a row, not uint8 [7, 32, 32, 3]'),
    ('fog.npy', np.zeros((30, 3, 32, 32), np.uint8), 'must be uint8 [images, height, width, 3]'),
    ('labels.npy', np.zeros(7, int), 'must have 30 whole numbers, or 6, not int64 [7]'),
    ('labels.npy', np.full(30, 9), '--num-classes 2 is too small: the data set has labels '),
    ('fog.npy', np.array([{}]), 'can\'t be read as an array of NumPy'),
])
def test_arrays_that_do_not_fit_end_in_one_line(folder, tmp_path, capsys, file, array, words):
    for name in ('fog.npy', 'labels.npy'):
        np.save(tmp_path / name, array if name == file else np.load(folder / 'CIFAR-10-C' / name))
    with pytest.raises(SystemExit) as ended:
        errors(folder, capsys, '--corruptions', 'fog', '--corruptions-dir', tmp_path)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_corruption_that_is_not_there_or_cannot_be_generated_is_named(folder, capsys):
    for flags, words in (
        (('snow', '--corruptions-dir', folder), 'expected CORRUPTION.npy and labels.npy as CIFAR-10-C has them'),
        (('blue_noise',), '--corruptions blue_noise can only be read, with --corruptions-dir'),
    ):
        with pytest.raises(SystemExit):
            errors(folder, capsys, '--corruptions', *flags)
        assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_two_published_sets_in_a_folder_are_not_guessed_between(folder, tmp_path):
    for name in ('CIFAR-10-C', 'CIFAR-100-C'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'fog.npy').touch()
    with pytest.raises(ValueError, match=r'several folders with fog, such as .*CIFAR-10-C.* and .*CIFAR-100-C'):
        find_corruption(str(tmp_path), 'fog', 1)
    assert find_corruption(str(tmp_path / 'CIFAR-100-C'), 'fog', 1) == str(tmp_path / 'CIFAR-100-C' / 'fog.npy')


def test_generated_corruptions_are_said_to_be_those_of_imagenet_c(folder, capsys, caplog):
    pytest.importorskip('imagecorruptions', reason='needs the extra robustness')
    found = errors(folder, capsys, '--corruptions', 'brightness', '--severities', 1)
    assert found['corruptions'] == 'generated with the parameters of ImageNet-C'
    assert 'stronger than those of CIFAR-10-C' in caplog.text
