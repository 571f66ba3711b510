"""Data workers give the same run by fork, forkserver (the default of Python 3.14) and spawn."""
import json
import multiprocessing
from contextlib import contextmanager

import pytest
import torch
from coco_helpers import make_coco
from PIL import Image
from processes import SERVER
from train_helpers import read_summary, train

from gradaug_timm.evaluation.main import main as validate

METHODS = multiprocessing.get_all_start_methods()
assert SERVER  # it has imported torch before it is asked for a worker
AUGMENTED = dict(
    no_aug=None, reflect_pad=2, pca_lighting=0.1, aa='rand-m5-n1', reprob=0.5, hflip=0.5, mixup=0.5, cutmix=1.0,
    labels_per_class=8, batch_size=8, epochs=2)
DETECTOR = (
    '--model resnet10t --pyramid-channels 16 --min-size 64 --max-size 96 --batch-size 2 --opt adamw --lr 0.001 '
    '--warmup-epochs 0 --epochs 1 --device cpu --gradaug-subnets 1 --detector-kwargs box_batch_size_per_image=16 '
    'rpn_pre_nms_top_n_train=64 rpn_post_nms_top_n_train=32 rpn_post_nms_top_n_test=16')
EVALUATED = '--model resnet20_cifar --model-kwargs depth=8 --num-classes 2 --img-size 16 --device cpu --batch-size 4'


@contextmanager
def started_by(method: str):
    """Processes are started so where nobody says otherwise."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Images of random pixels, one of which is damaged."""
    root, generator = tmp_path_factory.mktemp('data'), torch.Generator().manual_seed(0)
    for split in ('train', 'validation'):
        for name in 'ab':
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(10):
                pixels = torch.randint(256, (36, 36, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / f'{index}.png')
    (root / 'train' / 'a' / '3.png').write_bytes(b'damaged')
    return root


def results(folder) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """The weights and the table of a run, without times."""
    weights = torch.load(folder / 'last.pth.tar', weights_only=False)['state_dict']
    return weights, [{name: value for name, value in row.items() if 'second' not in name and 'time' not in name}
                     for row in read_summary(folder)]


def assert_same(first, second) -> None:
    (weights, rows), (others, other_rows) = first, second
    assert weights.keys() == others.keys() and len(rows) > 0
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []
    assert rows == other_rows


@pytest.fixture(scope='module')
def in_one_process(data, tmp_path_factory):
    return results(train(data, tmp_path_factory.mktemp('plain'), val_split='', **AUGMENTED))


@pytest.mark.parametrize('method', METHODS)
def test_workers_train_bit_for_bit_what_no_workers_train(data, in_one_process, tmp_path, method):
    workers = 2 if method == 'fork' else 1  # others take seconds to import torch
    with started_by(method):
        folder = train(data, tmp_path, workers=workers, val_split='', **AUGMENTED)
    assert_same(results(folder), in_one_process)


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_two_workers_and_validation_by_crops_give_the_same(data, tmp_path, method):
    flags = {**AUGMENTED, 'tta': 2, 'validation_batch_size': 4}
    plain = results(train(data, tmp_path / 'plain', **flags))
    with started_by(method):
        assert_same(results(train(data, tmp_path / 'workers', workers=2, **flags)), plain)


@pytest.mark.slow
@pytest.mark.parametrize('flags', [
    dict(use_multi_epochs_loader=True, **AUGMENTED),
    dict(no_prefetcher=True, **AUGMENTED),
    dict(aug_splits=2, jsd_loss=True, aa='augmix-m5', no_aug=None),
    dict(device_augment=True, reflect_pad=2, color_jitter=0, no_aug=None),
    dict(train_img_sizes=(16, 24), train_batch_sizes=(8, 4), no_aug=None),
    dict(dataset='gradaug/mnist5k', data_dir=None, num_classes=10, train_split='train[2]', img_size=28)],
    ids=['epochs', 'no prefetcher', 'augmix', 'device', 'sizes', 'digits'])
def test_every_kind_of_loader_gives_the_same_with_workers(data, tmp_path, flags):
    plain = results(train(data, tmp_path / 'plain', **flags))
    with started_by('forkserver'):
        assert_same(results(train(data, tmp_path / 'workers', workers=2, **flags)), plain)


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_validation_gives_the_same_with_workers(data, tmp_path, method):
    checkpoint = train(data, tmp_path) / 'last.pth.tar'
    common = [*EVALUATED.split(), '--data-dir', str(data), '--checkpoint', str(checkpoint), '--results-format', 'json',
              '--width', '0.8', '1.0', '--recalibration-batches', '2']
    validate([*common, '--workers', '0', '--results-file', str(tmp_path / 'plain.json')])
    with started_by(method):
        validate([*common, '--workers', '2', '--results-file', str(tmp_path / 'workers.json')])
    plain, workers = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('plain', 'workers'))
    assert len(plain) == 2 and plain == workers


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_corrupted_images_are_the_same_with_workers(data, tmp_path, method):
    pytest.importorskip('imagecorruptions', reason='needs the extra robustness')
    checkpoint = train(data, tmp_path) / 'last.pth.tar'
    common = [*EVALUATED.split(), '--data-dir', str(data), '--checkpoint', str(checkpoint), '--results-format', 'json',
              '--corruptions', 'brightness', 'gaussian_noise', '--severities', '3']
    validate([*common, '--workers', '0', '--results-file', str(tmp_path / 'plain.json')])
    with started_by(method):
        validate([*common, '--workers', '2', '--results-file', str(tmp_path / 'workers.json')])
    assert (tmp_path / 'plain.json').read_text() == (tmp_path / 'workers.json').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_detectors_are_trained_the_same_with_workers(tmp_path, method):
    pytest.importorskip('faster_coco_eval', reason='needs the extra detection')
    from gradaug_timm.detection.train import main as detect
    make_coco(tmp_path, images=6, upright=2)
    make_coco(tmp_path, split='val2017', seed=1)

    def run(name: str, workers: int):
        detect([*DETECTOR.split(), '--gradaug', '--data-dir', str(tmp_path), '--output', str(tmp_path),
                '--experiment', name, '--workers', str(workers)])
        return results(tmp_path / name)

    plain = run('plain', 0)
    with started_by(method):
        assert_same(run('workers', 2), plain)
