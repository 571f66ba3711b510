"""The picture of the inputs of a step shows the actual inputs of all networks."""
import numpy as np
import pytest
import torch
from timm import create_model

from gradaug_timm import GradAugSettings, GradAugTask
from gradaug_timm.task.sampling import draw_step
from gradaug_timm.task.transforms import apply_transform
from gradaug_timm.training.outputs.input_pictures import FONT, GAP, SHOWN, TITLE, draw_inputs, network_inputs

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SETTINGS = GradAugSettings(
    subnets=2, sizes=(1.0, 0.75), rotation=(0., 90.), batch_fraction=0.5, interval=2, divisor=1, seed=3)


@pytest.fixture(scope='module')
def task():
    return GradAugTask(create_model('test_resnet', num_classes=4), settings=SETTINGS, verbose=False)


def step(task, images):
    """What the network is called with in one step."""
    seen = []
    hook = task.trainable_module.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    task.train()
    task(images, torch.zeros(len(images), dtype=torch.long))['loss'].backward()
    hook.remove()
    return seen


def test_the_inputs_are_those_that_the_passes_of_the_last_step_got(task):
    images = torch.randn(12, 3, 64, 64)
    for number in range(4):
        seen = step(task, images)
        titles, inputs = zip(*network_inputs(task, images))
        assert len(seen) == len(inputs) == (1 if number % 2 else 3)
        assert all(torch.equal(one, other) for one, other in zip(seen, inputs))
        assert titles[0] == 'full network, 64x64 px'
        for title, draw in zip(titles[1:], draw_step(SETTINGS, number, num_blocks=0)):
            size, angle = (each.value for each in draw.transform.steps)
            assert f'width {draw.subnet.width:.4g}, size {size:g}' in title
            assert ('rotated by 90°' in title) == (angle == 90)


@pytest.mark.parametrize('pixels, factor', [(64, 1), (20, 3)])
def test_the_pixels_are_those_of_the_images_before_they_were_normalised(task, pixels, factor):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    images = torch.rand(10, 3, pixels, pixels)
    draws = draw_step(SETTINGS, 0, num_blocks=0)
    views = [images, *(apply_transform(images, draw.transform) for draw in draws)]
    picture = np.asarray(draw_inputs([('a', (view - mean) / std) for view in views], MEAN, STD))
    for row, view in enumerate(views):
        for column in range(SHOWN):
            top = GAP + row * (TITLE + factor * pixels + GAP) + TITLE
            left = GAP + column * (factor * pixels + GAP)
            height, width = (factor * side for side in view.shape[-2:])
            found = picture[top:top + height, left:left + width]
            expected = (view[column] * 255).round().permute(1, 2, 0).numpy()
            assert np.abs(found[::factor, ::factor] - expected).max() <= 1  # of rounding
            assert np.array_equal(found, np.kron(found[::factor, ::factor], np.ones((factor, factor, 1))))


def test_titles_are_whole_and_other_channels_are_shown_as_far_as_there_are_colours():
    long = 'sub-network 0: width 0.8, 2 blocks skipped, size 0.75, rotated by 90°, 12x12 px'
    narrow = draw_inputs([('full', torch.rand(1, 3, 8, 8))], (0.,), (1.,))
    wide = draw_inputs([(long, torch.rand(1, 3, 8, 8))], (0.,), (1.,))
    assert wide.width > len(long) * FONT / 3 > narrow.width
    for channels in (1, 2, 5):
        picture = np.asarray(draw_inputs([('', torch.full((1, channels, 64, 64), 0.2))], (0.,), (1.,)))
        assert np.array_equal(picture[GAP + TITLE:GAP + TITLE + 64, GAP:GAP + 64], np.full((64, 64, 3), 51))


def test_plain_training_shows_the_batch_alone():
    from timm.task import ClassificationTask
    task = ClassificationTask(create_model('test_resnet', num_classes=4), verbose=False)
    images = torch.rand(2, 3, 32, 32)
    assert [title for title, _ in network_inputs(task, images)] == ['full network, 32x32 px']
