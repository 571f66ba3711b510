"""Recalibration: images weigh equally, incomplete batches and the order of a data set do no harm."""
import logging

import pytest
import timm
import torch
from test_validate_subnets import measured_in_float64
from torch.optim.swa_utils import update_bn
from torch.utils.data import TensorDataset

from gradaug_timm import Subnet, activate, extract, make_elastic, random_batches, recalibrate
from gradaug_timm.elastic import statistics

SUBNET = Subnet(0.5, 4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return make_elastic(timm.create_model('gradaug_resnet20_cifar', num_classes=4, depth=8)).eval()


def images(count: int, *, seed: int = 0, shift: float = 0.) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) + shift


def first_statistics(model) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the first BatchNorm, whose inputs do not depend on how images are put into batches."""
    return next(iter(statistics(model, SUBNET).values()))


@pytest.mark.parametrize('sizes', [(16, 16, 1), (16, 16, 2), (16, 9), (5, 16)])
@torch.no_grad()
def test_images_weigh_equally_however_they_are_put_into_batches(model, sizes):
    pixels = torch.cat([images(sizes[0]), images(sum(sizes[1:]), seed=1, shift=3)])
    assert recalibrate(model, SUBNET, pixels.split(sizes)) == sum(sizes)
    dense = extract(model, SUBNET)
    features = torch.nn.functional.conv2d(pixels.double(), dense.conv1.weight.double(), padding=1).movedim(1, 0)
    mean, variance = first_statistics(model)
    torch.testing.assert_close(mean.double(), features.flatten(1).mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance.double(), features.flatten(1).var(1), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_last_batch_of_one_image_is_joined_to_the_batch_before(model):
    pixels = images(33)
    oracle = measured_in_float64(extract(model, SUBNET), [pixels[:16], pixels[16:]])
    recalibrate(model, SUBNET, pixels.split(16))
    for (name, expected), other in zip(oracle.named_buffers(), extract(model, SUBNET).buffers()):
        if not name.endswith('num_batches_tracked'):
            torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_random_batches_hold_all_classes_of_a_sorted_data_set_and_follow_their_seed():
    labels = torch.arange(400) // 100
    dataset = TensorDataset(labels.float().view(-1, 1, 1, 1), labels)
    first, again, other = (list(random_batches(dataset, 2, 40, seed=seed)) for seed in (0, 0, 1))
    assert [len(batch) for batch in first] == [40, 40]
    assert all(len(batch.unique()) == 4 for batch in first)
    assert torch.equal(torch.cat(first), torch.cat(again)) and not torch.equal(torch.cat(first), torch.cat(other))
    every = torch.cat(list(random_batches(TensorDataset(torch.arange(10.)), 16, 4)))
    assert sorted(every.tolist()) == list(range(10)), 'each image once'


@pytest.mark.parametrize('classes, size, shift', [(4, 32, 1.), (20, 16, .011)])  # many batches show small differences
def test_batches_in_order_of_class_are_warned_of_and_random_ones_are_not(classes, size, shift, model, caplog):
    pixels = torch.cat([images(size, seed=label, shift=shift * label) for label in range(classes)])
    with caplog.at_level(logging.INFO):
        recalibrate(model, SUBNET, pixels.split(size))
        assert 'in order of class' in caplog.text
        caplog.clear()
        recalibrate(model, SUBNET, random_batches(TensorDataset(pixels), classes, size))
    assert 'in order of class' not in caplog.text
    assert f'measured on {classes * size} images in {classes} batches' in caplog.text


def test_random_batches_of_no_images_are_refused():
    with pytest.raises(ValueError, match='a data set with images'):
        next(random_batches(TensorDataset(torch.zeros(0, 3, 8, 8))))


@torch.no_grad()
def test_update_bn_inside_activate_changes_nothing_where_recalibrate_does(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with activate(model, SUBNET):
        first = model(images(4))
        update_bn([images(16, shift=3)], model)
        assert torch.equal(model.eval()(images(4)), first)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    recalibrate(model, SUBNET, [images(16, shift=3)])
    with activate(model, SUBNET):
        assert not torch.allclose(model(images(4)), first)
    dense = extract(model, SUBNET)
    update_bn([images(16, shift=5)], dense)
    assert not torch.equal(next(dense.buffers()), first_statistics(model)[0]), 'an extract is a plain network'
