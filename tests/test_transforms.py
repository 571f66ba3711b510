"""Transformations of a sub-network's input."""
import pytest
import torch

from gradaug_timm.task.transformations import Resize, Rotation
from gradaug_timm.task.transforms import InputTransform, apply_transform


@pytest.mark.parametrize('size, height, width, expected', [
    (6 / 7, 224, 224, (192, 192)), (4 / 7, 224, 224, (128, 128)), (7 / 8, 32, 32, (28, 28)), (3 / 4, 32, 32, (24, 24)),
    (128, 224, 224, (128, 128)), (0.5, 100, 60, (50, 30)), (50, 100, 60, (50, 30)), (0.01, 20, 20, (1, 1))])
def test_sizes_are_fractions_or_pixels_of_the_longer_side(size, height, width, expected):
    assert Resize(size).output_size(height, width) == expected
    assert InputTransform((Resize(size),)).output_size(height, width) == expected


def test_resizing_is_bilinear_with_aligned_corners():
    image = torch.tensor([[[[0., 1., 2.], [3., 4., 5.], [6., 7., 8.]]]])
    resized = apply_transform(image, InputTransform((Resize(2),)))
    assert torch.equal(resized, torch.tensor([[[[0., 2.], [6., 8.]]]]))
    enlarged = apply_transform(image[..., :2, :2], InputTransform((Resize(3),)))
    assert torch.equal(enlarged, torch.tensor([[[[0., .5, 1.], [1.5, 2., 2.5], [3., 3.5, 4.]]]]))


def test_a_right_angle_turns_the_image():
    image = torch.randn(2, 3, 5, 5)
    turned = apply_transform(image, InputTransform((Resize(1.0), Rotation(90.0))))
    torch.testing.assert_close(turned, torch.rot90(image, 1, (2, 3)))


def test_the_memory_layout_stays():
    image = torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    for steps in ((Rotation(30.0),), (Resize(4),), (Resize(4), Rotation(30.0))):
        assert apply_transform(image, InputTransform(steps)).is_contiguous(memory_format=torch.channels_last)


def test_nothing_to_do_copies_nothing():
    image = torch.randn(2, 3, 5, 5)
    assert apply_transform(image, InputTransform((Resize(1.0), Rotation(0.0)))) is image
