"""Sub-networks compute the same as physically narrow networks, and leave the full network unchanged."""
import copy
import itertools

import numpy as np
import pytest
import timm
import torch
from narrow_networks import PAIRS, leading, narrow_pair
from torch import nn

from gradaug_timm import GradAugSettings, Subnet, activate, extract, make_elastic
from gradaug_timm.elastic.planning.validation import masked_forward
from gradaug_timm.task.sampling import width_grid

BATCH = 3


def _images(size: int = 40) -> torch.Tensor:
    return torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize('training', [False, True])
def test_a_subnetwork_equals_a_physically_narrow_network(name, training):
    full, narrow, width, divisor = narrow_pair(name)
    make_elastic(full).train(training)
    with activate(full, Subnet(width, divisor)):
        output = full(_images())
    torch.testing.assert_close(output, narrow.train(training)(_images()))


@pytest.mark.parametrize('name', PAIRS)
def test_gradients_equal_those_of_the_narrow_network_and_are_exactly_zero_outside(name):
    full, narrow, width, divisor = narrow_pair(name)
    make_elastic(full).train()
    with activate(full, Subnet(width, divisor)):
        full(_images()).square().sum().backward()
    narrow.train()(_images()).square().sum().backward()
    parameters = dict(narrow.named_parameters())
    for key, parameter in full.named_parameters():
        expected = torch.zeros_like(parameter)
        inside = leading(torch.arange(parameter.numel()).view(parameter.shape), parameters[key].shape, name, key)
        expected.view(-1)[inside.flatten()] = parameters[key].grad.flatten()
        outside = torch.ones(parameter.numel(), dtype=torch.bool)
        outside[inside.flatten()] = False
        assert (parameter.grad.view(-1)[outside] == 0).all(), key
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max() + 1))


@pytest.mark.parametrize('name', PAIRS)
def test_at_every_width_of_the_grid_masked_sliced_and_dense_networks_agree(name):
    full = PAIRS[name][0]().double().eval()
    plain = copy.deepcopy(full)
    plan = make_elastic(full)._elastic.plan
    assert not plan.frozen
    images = _images(32).double()
    for width, divisor in itertools.product(width_grid(GradAugSettings(min_width=0.8)), (1, 8)):
        subnet = Subnet(width, divisor)
        with torch.no_grad():
            with activate(full, subnet):
                output = full(images)
            torch.testing.assert_close(output, masked_forward(plain, plan, subnet, images))
            if width == 0.8:
                torch.testing.assert_close(extract(full, subnet)(images), output, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('name', PAIRS)
def test_the_extracted_network_is_dense_and_gives_the_same_output_exactly(name):
    full, narrow, width, divisor = narrow_pair(name)
    make_elastic(full).eval()
    subnet = Subnet(width, divisor)
    dense = extract(full, subnet)
    with torch.no_grad(), activate(full, subnet):
        expected = full(_images())
    assert torch.equal(dense(_images()), expected)
    assert {key: value.shape for key, value in dense.state_dict().items()} == (
        {key: value.shape for key, value in narrow.state_dict().items()})
    assert not any('elastic' in type(module).__module__ for module in dense.modules())


@pytest.mark.parametrize('subnet', [Subnet(0.5), Subnet(1.0), Subnet(1.0, skipped=(1, 2)), Subnet(0.5, skipped=(0,))])
def test_running_statistics_are_untouched_by_a_subnetwork_in_training(subnet):
    full, *_ = narrow_pair('basic')
    make_elastic(full).train()
    before = copy.deepcopy(dict(full.named_buffers()))
    with activate(full, subnet):
        full(_images())
    assert all(torch.equal(buffer, before[name]) for name, buffer in full.named_buffers())
    full(_images())
    assert not torch.equal(full.bn1.running_mean, before['bn1.running_mean'])


LAST = {'basic': 'bn2', 'bottleneck': 'bn3', 'cifar_resnet': 'bn2', 'wide_resnet': 'conv2', 'pyramid_basic': 'norm3'}


@pytest.mark.parametrize('name', LAST)
def test_a_skipped_block_leaves_its_shortcut(name):
    full, *_ = narrow_pair(name)
    full.eval()
    make_elastic(full)
    first_stage = full.layer1
    skipped_first, skipped_second = Subnet(skipped=(0,)), Subnet(skipped=(1,))
    x = torch.rand(2, first_stage[0].conv1.in_channels, 12, 12)
    silent = copy.deepcopy(full)
    for block in silent.layer1:  # a branch that ends in zeros adds nothing
        last = getattr(block, LAST[name])
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
    blocks = [(0, skipped_first)] if name in ('wide_resnet', 'pyramid_basic') and len(first_stage) == 1 else [
        (0, skipped_first), (1, skipped_second)]
    for index, subnet in blocks:
        block_input = torch.rand(2, first_stage[index].conv1.in_channels, 12, 12)
        with activate(full, subnet):
            output = first_stage[index](block_input)
        torch.testing.assert_close(output, silent.layer1[index](block_input))
        dense = extract(full, subnet)
        assert torch.equal(dense.layer1[index](block_input), output)
    assert torch.equal(first_stage[0](x), copy.deepcopy(full).layer1[0](x))


def test_a_skipped_block_costs_no_computation():
    full = timm.create_model('gradaug_resnet20_cifar').eval()
    calls = []
    full.layer2[1].conv1.register_forward_hook(lambda *_: calls.append('conv'))
    with activate(full, Subnet(skipped=(4,))):
        full(_images(32))
    assert calls == []
    full(_images(32))
    assert calls == ['conv']


@pytest.mark.parametrize(
    'name', ['resnet18', 'seresnet18', 'resnet26t', 'resnext50_32x4d', 'resnet50_gn', 'resnetblur18'])
def test_at_full_width_outputs_and_keys_are_those_of_timm(name):
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=5, layers=(2, 1, 1, 1)).eval()
    elastic = timm.create_model(f'gradaug_{name}', num_classes=5, layers=(2, 1, 1, 1)).eval()
    elastic.load_state_dict(plain.state_dict(), strict=True)
    with activate(elastic, Subnet(0.5)):
        elastic(_images(64))
    assert torch.equal(elastic(_images(64)), plain(_images(64)))
    plain.load_state_dict(elastic.state_dict(), strict=True)
    assert list(plain.state_dict()) == list(elastic.state_dict())


def test_the_full_network_is_restored_after_an_exception():
    model = timm.create_model('gradaug_resnet20_cifar').eval()
    expected = model(_images(32))
    with pytest.raises(RuntimeError, match='stop'), activate(model, Subnet(0.5)):
        raise RuntimeError('stop')
    assert torch.equal(model(_images(32)), expected)


def test_activations_nest_and_restore_the_outer_subnetwork():
    model = timm.create_model('gradaug_resnet20_cifar').eval()
    with activate(model, Subnet(0.5)):
        outer = model(_images(32))
        with activate(model, Subnet(0.75)):
            assert not torch.equal(model(_images(32)), outer)
        assert torch.equal(model(_images(32)), outer)


def test_widths_of_the_paper_count_the_inner_channels_of_bottlenecks_from_their_output():
    dense = extract(timm.create_model('gradaug_resnet50', layers=(1, 1, 1, 2)), Subnet(0.9, divisor=1))
    block = dense.layer4[1]
    assert dense.conv1.out_channels == 57
    assert (block.conv1.in_channels, block.conv1.out_channels, block.conv2.out_channels) == (1843, 460, 460)


@pytest.mark.parametrize('width, divisor, channels, kept', [
    (0.9, 8, 64, 56), (0.9, 8, 16, 16), (0.8, 8, 10, 8), (0.01, 8, 64, 8), (0.5, 1, 5, 3), (0.9, 1, 64, 58),
    (1.0, 8, 57, 57)])
def test_kept_channels_are_rounded_half_up_to_the_divisor(width, divisor, channels, kept):
    assert Subnet(width, divisor).kept(channels) == kept


@pytest.mark.parametrize('arguments, words', [
    (dict(width=0), 'width=0'), (dict(width=1.5), 'width=1.5'), (dict(divisor=0), 'divisor=0'),
    (dict(divisor=2.0), 'divisor=2.0'), (dict(skipped=(-1,)), 'skipped'), (dict(skipped=3), 'skipped=3'),
    (dict(width='0.5'), 'width=\'0.5\''), (dict(divisor=True), 'divisor=True')])
def test_a_subnetwork_out_of_range_is_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        Subnet(**arguments)


def test_a_skipped_block_with_another_activation_still_applies_it():
    model = make_elastic(timm.create_model('resnet18', act_layer='silu', layers=(2, 1, 1, 1)).eval())
    silent = copy.deepcopy(model)
    nn.init.zeros_(silent.layer1[1].bn2.weight)
    x = torch.randn(2, 64, 8, 8)
    with activate(model, Subnet(skipped=(1,))):
        torch.testing.assert_close(model.layer1[1](x), silent.layer1[1](x))
    assert torch.equal(extract(model, Subnet(skipped=(1,))).layer1[1](x), silent.layer1[1](x))


def test_numbers_of_numpy_are_taken():
    assert Subnet(np.float64(0.5), np.int64(4), np.array([1, 0])) == Subnet(0.5, 4, (0, 1))


def test_skipping_a_block_that_is_not_there_is_refused():
    model = timm.create_model('gradaug_resnet20_cifar')
    with pytest.raises(ValueError, match='below 9'), activate(model, Subnet(skipped=(9,))):
        pass
