"""The transforms of the paper's recipes."""
import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from gradaug_timm.data import PadCrop, PCALighting, insert_augmentations
from gradaug_timm.data.augmentations import lighting_shift


def gradient_image(size: int = 8) -> Image.Image:
    return Image.fromarray(np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3))


def test_a_reflect_pad_crop_is_a_window_of_the_reflected_image():
    image, padding = gradient_image(), 3
    padded = np.pad(np.asarray(image), ((padding, padding), (padding, padding), (0, 0)), mode='reflect')
    windows = {padded[y:y + 8, x:x + 8].tobytes() for y in range(7) for x in range(7)}
    crop = PadCrop((8, 8), padding)
    torch.manual_seed(0)
    seen = {np.asarray(crop(image)).tobytes() for _ in range(400)}
    assert seen == windows


def test_an_image_of_another_size_is_resized_before_the_crop():
    assert PadCrop((6, 6), 1)(gradient_image(8)).size == (6, 6)


def test_lighting_is_the_sum_of_scaled_components():
    # first component of ImageNet's colours times its eigenvalue, computed by hand
    np.testing.assert_allclose(
        lighting_shift(np.array([1., 0., 0.])), [-0.12343, -0.12632, -0.12693], atol=1e-5)


def test_lighting_has_the_spread_of_imagenets_colours_on_pixels_in_0_to_1():
    torch.manual_seed(0)
    gray, lighting = Image.new('RGB', (1, 1), (128, 128, 128)), PCALighting(1.)
    shifts = np.array([np.asarray(lighting(gray), dtype=float)[0, 0] / 255 - 128 / 255 for _ in range(3000)])
    # variance of a channel: sum over components of (eigenvector * eigenvalue)^2
    np.testing.assert_allclose(shifts.std(axis=0), [0.12426, 0.12637, 0.12763], rtol=0.06)


def test_lighting_stays_within_pixel_values():
    white = Image.new('RGB', (2, 2), (255, 255, 255))
    assert np.asarray(PCALighting(1.)(white)).dtype == np.uint8
    torch.manual_seed(1)
    assert all(np.asarray(PCALighting(3.)(white)).min() >= 0 for _ in range(20))


@pytest.mark.parametrize('prefetcher', [False, True])
def test_the_augmentations_take_their_place_in_timms_pipeline(prefetcher):
    pipeline = create_transform((3, 8, 8), is_training=True, use_prefetcher=prefetcher)
    changed = insert_augmentations(pipeline, size=(8, 8), reflect_pad=2, pca_lighting=0.1)
    names = [type(step).__name__ for step in changed.transforms]
    assert names[:4] == ['PadCrop', 'RandomHorizontalFlip', 'ColorJitter', 'PCALighting']
    assert names[4:] == [type(step).__name__ for step in pipeline.transforms[3:]]
    assert changed(gradient_image()).shape == (3, 8, 8)


def test_without_either_the_pipeline_stays_timms():
    pipeline = create_transform((3, 8, 8), is_training=True)
    assert insert_augmentations(pipeline, size=(8, 8)).transforms == pipeline.transforms
