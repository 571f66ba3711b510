"""Transforms fit the mode of the images, and are tried on one image before training."""
import random

import numpy as np
import pytest
import timm
import timm.data.auto_augment as policies
import torch
from PIL import Image, ImageOps
from timm.data import create_loader, create_transform
from timm.data.auto_augment import AugmentOp
from train_helpers import arguments, error_line, make_image_folder, read_summary, train

from gradaug_timm import EvaluationSettings, evaluate
from gradaug_timm.data import create_dataset
from gradaug_timm.data.operations import ByBands, fit_operations, operations_of
from gradaug_timm.data.trial import check_image, try_transforms

MODES = {'L': 1, 'LA': 2, 'RGB': 3, 'YCbCr': 3, 'HSV': 3, 'RGBA': 4, 'CMYK': 4}
POLICIES = ('rand-m9-mstd0.5-inc1', 'rand-m15-n3', 'v0', 'original-mstd0.5', '3a', 'augmix-m5-w4-d2')


def coloured(mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, MODES[mode]), dtype=np.uint8)
    return Image.frombytes(mode, (24, 24), pixels.tobytes())


def pipeline(policy: str, mode: str):
    channels = MODES[mode]
    return create_transform(
        (channels, 24, 24), is_training=True, auto_augment=policy, mean=(0.5,) * channels, std=(0.2,) * channels,
        use_prefetcher=True)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', POLICIES)
def test_every_operation_of_a_policy_keeps_mode_and_size(policy, mode):
    image, steps = coloured(mode), pipeline(policy, mode).transforms
    fit_operations(iter(steps))
    operations = [operation for step in steps for operation in operations_of(step)]
    assert len(operations) >= 3
    random.seed(0)
    for operation in operations:
        operation.prob = 1.
        changed = operation(image)
        assert (changed.mode, changed.size) == (image.mode, image.size), operation
    choice, = (step for step in steps if operations_of(step))
    assert choice(image).mode == image.mode


@pytest.mark.parametrize('name', ['AutoContrast', 'Equalize', 'Invert', 'Posterize', 'Solarize', 'SolarizeAdd'])
def test_three_colours_are_changed_as_rgb_and_alpha_stays(name):
    image = coloured('RGBA')
    own, of_timm = (AugmentOp(name, prob=1., magnitude=7) for _ in range(2))
    own.aug_fn = ByBands(own.aug_fn, bits=name == 'Posterize')
    rgb = Image.merge('RGB', image.split()[:3])
    assert (np.asarray(own(image))[..., :3] == np.asarray(of_timm(rgb))).all()
    assert (np.asarray(own(image))[..., 3] == np.asarray(image)[..., 3]).all()
    assert (np.asarray(own(rgb)) == np.asarray(of_timm(rgb))).all()


def test_the_strongest_posterize_leaves_nothing_of_an_image():
    operation = AugmentOp('PosterizeIncreasing', prob=1., magnitude=10)
    operation.aug_fn = ByBands(operation.aug_fn, bits=True)
    assert np.asarray(operation(coloured('RGB'))).max() == 0
    assert (np.asarray(ByBands(policies.posterize, bits=True)(coloured('RGB'), 1)) ==
            np.asarray(ImageOps.posterize(coloured('RGB'), 1))).all()


@pytest.mark.parametrize('flags', [
    dict(in_chans=1, aa='rand-m9-mstd0.5-inc1'),
    dict(in_chans=4, input_img_mode='RGBA', aa='rand-m9-mstd0.5-inc1', reprob=0.5),
    dict(input_img_mode='YCbCr', aa='original-mstd0.5', gaussian_blur_prob=0.5),
    dict(in_chans=4, input_img_mode='CMYK', aa='v0', gradaug=True, gradaug_divisor=4),
])
def test_images_of_any_mode_are_augmented_and_none_is_replaced(tmp_path, caplog, flags):
    root = make_image_folder(tmp_path / 'data', images=8)
    row = read_summary(train(root, tmp_path, no_aug=False, img_size=24, **flags))[0]
    assert float(row['train_loss']) > 0 and 'could not be read' not in caplog.text


@pytest.mark.parametrize('flags, words', [
    (dict(in_chans=4, input_img_mode='RGBA', grayscale_prob=0.1), '--grayscale-prob: RandomGrayscale does not support'),
    (dict(input_img_mode='YCbCr', grayscale_prob=0.1), 'it gives images of mode RGB'),
    (dict(gaussian_blur_prob=0.1, img_size=8), 'RGB and 8x8 pixels'),
])
def test_a_transform_that_does_not_support_the_images_ends_before_training(tmp_path, capsys, flags, words):
    root = make_image_folder(tmp_path / 'data')
    assert words in error_line(capsys, arguments(root, tmp_path / 'run', **{'no_aug': False, 'img_size': 24, **flags}))


def test_a_trial_keeps_random_generators_and_skips_damaged_images(tmp_path):
    root = make_image_folder(tmp_path / 'data')
    (root / 'train' / 'a' / '0.png').write_text('no image')
    dataset = create_dataset('', str(root), 'train')
    create_loader(dataset, (3, 24, 24), 2, is_training=True, auto_augment='rand-m9', use_prefetcher=False)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    try_transforms(dataset)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert dataset.unreadable.take() == 0


def test_data_sets_with_other_channels_than_the_network_are_told(tmp_path):
    root = make_image_folder(tmp_path / 'data', splits=('validation',))
    dataset = create_dataset('', str(root), 'validation', input_img_mode='L')
    check_image(dataset, 1)
    with pytest.raises(ValueError, match=r'have 1 channel \(mode L\), but the network takes 3: use --in-chans 1'):
        check_image(dataset, 3)


def test_a_data_set_of_nothing_but_32_bits_ends_before_training(tmp_path, capsys):
    root = make_image_folder(tmp_path / 'data')
    for path in root.rglob('*.png'):
        Image.fromarray(np.ones((16, 16), dtype=np.float32)).save(path.with_suffix('.tif'))
        path.unlink()
    line = error_line(capsys, arguments(root, tmp_path / 'run', in_chans=1))
    assert '32 bits (mode F) of unknown range' in line
    with pytest.raises(ValueError, match='32 bits'):
        evaluate(EvaluationSettings(data_dir=str(root), workers=0, device='cpu', img_size=16),
                 timm.create_model('resnet20_cifar', num_classes=2, depth=8))
