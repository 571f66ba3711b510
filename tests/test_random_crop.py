"""Random crop as a transformation of sub-networks' images, against windows that are cut by hand."""
import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from naive import gradient, relative_error
from torch import nn
from train_helpers import train

from gradaug_timm import GradAugSettings, GradAugTask, activate
from gradaug_timm.task.sampling import draw_step
from gradaug_timm.task.transformations.random_crop import RandomCrop
from gradaug_timm.task.transforms import InputTransform, apply_transform
from gradaug_timm.training.outputs.run_json import read_record

SIZE = 16
CROPS = GradAugSettings.preset(
    SIZE, subnets=2, batch_fraction=1., sizes=(1.0,), transforms={'crop': (0.5, 0.75, 1.0)}, divisor=1)


def numbered(height=SIZE, width=SIZE, images=3):
    """Images whose pixels tell their place: 100 * row + column, plus 10,000 for each image and channel before."""
    place = 100. * torch.arange(height)[:, None] + torch.arange(width)
    return place + 10_000. * torch.arange(3 * images).view(images, 3, 1, 1)


def crop(images, value, seed=0):
    return apply_transform(images, InputTransform((RandomCrop(value, seed),)))


def corner(view):
    """Row and column of a view's first pixel in the image."""
    return divmod(int(view[0, 0, 0, 0]), 100)


@pytest.mark.parametrize('value, height, width, expected', [
    (0.5, 16, 16, (8, 8)), (0.75, 16, 12, (12, 9)), (0.6, 32, 32, (19, 19)), (0.01, 16, 16, (1, 1)),
    (1.0, 15, 7, (15, 7))])
def test_the_window_has_the_rounded_share_of_height_and_width(value, height, width, expected):
    assert RandomCrop(value).output_size(height, width) == expected
    assert crop(numbered(height, width), value).shape == (3, 3, *expected)


@pytest.mark.parametrize('seed', range(8))
def test_every_image_and_channel_loses_all_but_the_same_window(seed):
    images = numbered(16, 12)
    view = crop(images, 0.5, seed)
    top, left = corner(view)
    assert torch.equal(view, images[:, :, top:top + 8, left:left + 6])


def test_all_places_within_the_image_are_drawn_alike():
    corners = [corner(crop(numbered(4, 3), 0.5, seed)) for seed in range(1800)]
    counts = torch.zeros(3, 2)
    for top, left in corners:
        counts[top, left] += 1
    assert torch.all((counts - 300).abs() < 80)  # five standard deviations of 1,800 throws at 6 places


def test_the_whole_image_is_left_as_it_is():
    images = numbered()
    assert crop(images, 1.0) is images and crop(images, 0.99) is images


def test_the_memory_layout_stays():
    images = numbered().contiguous(memory_format=torch.channels_last)
    assert crop(images, 0.5).is_contiguous(memory_format=torch.channels_last)
    assert crop(numbered(), 0.5).is_contiguous()


def test_windows_follow_from_seed_and_step_and_differ_between_subnetworks():
    def corners(settings):
        steps = [draw_step(settings, step, num_blocks=3) for step in range(20)]
        return [[corner(apply_transform(numbered(), draw.transform)) for draw in draws] for draws in steps]

    small = GradAugSettings.preset(SIZE, subnets=2, sizes=(1.0,), transforms={'crop': 0.5})
    torch.manual_seed(1)
    first = corners(small)
    torch.manual_seed(2)
    assert corners(small) == first
    assert corners(GradAugSettings.preset(SIZE, subnets=2, sizes=(1.0,), transforms={'crop': 0.5}, seed=1)) != first
    assert sum(one != other for one, other in first) > 15


def test_a_step_trains_subnetworks_on_windows_cut_by_hand():
    torch.manual_seed(0)
    model = timm.create_model('gradaug_resnet20_cifar', num_classes=4, depth=8).train()
    twin, task = copy.deepcopy(model), GradAugTask(model, nn.CrossEntropyLoss(), settings=CROPS)
    images, target = torch.randn(6, 3, SIZE, SIZE), torch.arange(6) % 4
    task(images, target)['loss'].backward()
    full = twin(images)
    loss, soft = F.cross_entropy(full, target), full.detach().softmax(-1)
    for draw in draw_step(CROPS, 0, num_blocks=3):
        window = apply_transform(numbered(), draw.transform)
        (top, left), (height, width) = corner(window), window.shape[-2:]
        with activate(twin, draw.subnet):
            logits = twin(images[:, :, top:top + height, left:left + width])
        loss = loss + (soft * (soft.log() - logits.log_softmax(-1))).sum(-1).mean()
    loss.backward()
    assert relative_error(gradient(model), gradient(twin)) < 1e-5


@pytest.mark.parametrize('value', [0, 1.5, -0.5, 'half', '3/2'])
def test_a_share_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=f'crop={value} must be a fraction above 0, at most 1'):
        GradAugSettings(transforms={'crop': [value]})


def test_a_run_takes_the_flag_and_records_it(image_folder, tmp_path):
    folder = train(image_folder, tmp_path, gradaug=True, gradaug_subnets=1, gradaug_transforms=['crop=0.6,0.8,1'])
    assert read_record(folder)['gradaug']['transforms'] == [['crop', [0.6, 0.8, 1]]]
