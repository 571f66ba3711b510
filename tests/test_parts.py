"""Gradients of the kept parts of parameters, against autograd's gradients of whole parameters."""
import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import prune

from gradaug_timm import GradAugSettings, GradAugTask, Subnet
from gradaug_timm.elastic import PartCache, activate, make_elastic, parts, show_parts
from gradaug_timm.elastic.slicing import Cut
from gradaug_timm.task.carried_loss import CarriedLoss

NETWORKS = {
    'resnet10t': {},
    'densenet121': {'growth_rate': 8, 'block_config': (2, 2)},  # channels in several runs: their parts are copies
    'convnext_atto': {'depths': (1, 1, 1, 1), 'dims': (8, 16, 24, 32)},
    'vit_tiny_patch16_224': {'img_size': 32, 'depth': 2},
}


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return make_elastic(timm.create_model(name, num_classes=4, **NETWORKS[name])).train()


@pytest.mark.parametrize('name', NETWORKS)
def test_gradients_by_parts_are_the_entries_of_those_by_parameters(name):
    network, subnet, images = small(name), Subnet(0.6, 4), torch.randn(2, 3, 32, 32)
    parameters = list(network.parameters())
    with activate(network, subnet):
        expected = torch.autograd.grad(network(images).square().sum(), parameters, allow_unused=True)
    with activate(network, subnet):
        parts = show_parts(network)
        carried = CarriedLoss(parameters)
        carried.add(network(images).square().sum(), parts)
    assert len(parts) > len(parameters) / 2
    carried.total().backward()
    for (key, parameter), gradient in zip(network.named_parameters(), expected):
        if gradient is None:
            assert parameter.grad is None, key
        else:
            torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0, msg=key)


def test_after_the_activation_parameters_are_themselves_again():
    network = small('resnet10t')
    with activate(network, Subnet(0.5)):
        assert not isinstance(network.layer1[0].conv1.weight, nn.Parameter)
        parts = show_parts(network)
        shown = network.layer1[0].conv1.weight
        assert any(part.leaf is shown for part in parts)
        assert shown.data_ptr() == network.layer1[0].conv1._parameters['weight'].data_ptr()
    assert isinstance(network.layer1[0].conv1.weight, nn.Parameter)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_frozen_and_pruned_parameters_have_no_parts():
    network = small('resnet10t')
    network.layer1[0].conv1.weight.requires_grad_(False)
    prune.l1_unstructured(network.layer1[0].conv2, 'weight', amount=0.5)
    with activate(network, Subnet(0.5)):
        parameters = {id(part.parameter) for part in show_parts(network)}
    assert id(network.layer1[0].conv1.weight) not in parameters
    assert id(network.layer1[0].conv2.weight_orig) not in parameters
    assert id(network.layer2[0].conv1.weight) in parameters


class SumOfParameters(nn.Module):
    """Autograd gives `first` and `second` one tensor as gradient, and `third` one that repeats a number."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        self.third = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return ((self.first + self.second) * x).sum() + self.third.sum()


def test_gradients_that_share_memory_are_carried_each_for_itself():
    network, x = SumOfParameters(), torch.tensor([1., 2., 3.])
    carried = CarriedLoss(list(network.parameters()))
    for _ in range(3):
        carried.add(network(x))
    carried.total().backward()
    assert network.first.grad.tolist() == network.second.grad.tolist() == [3., 6., 9.]
    assert network.third.grad.tolist() == [3., 3., 3.]


def test_a_step_differentiates_no_cut_of_a_parameter():
    network = small('resnet10t')
    task = GradAugTask(network, nn.CrossEntropyLoss(), settings=GradAugSettings(subnets=2, min_width=0.5))
    with torch.profiler.profile() as profiler:
        task(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))['loss'].backward()
    assert not any('slice_backward' in event.key for event in profiler.key_averages())


def shown_in(network, cache, subnet=None):
    with activate(network, subnet or Subnet(0.5)):
        return show_parts(network, cache)


def test_parts_are_the_same_from_step_to_step_while_the_parameters_are():
    network, cache = small('resnet10t'), PartCache()
    first = shown_in(network, cache)
    assert all(a is b for a, b in zip(first, shown_in(network, cache), strict=True))
    other = shown_in(network, cache, Subnet(0.75))
    assert not {id(part.leaf) for part in first} & {id(part.leaf) for part in other}
    with torch.no_grad():
        network.layer2[0].conv1.weight.fill_(3)
    part = next(part for part in shown_in(network, cache) if part.parameter is network.layer2[0].conv1.weight)
    assert part.leaf.eq(3).all()


def replace_weight(network):
    network.layer2[0].conv1.weight = nn.Parameter(torch.zeros(network.layer2[0].conv1.weight.shape))


@pytest.mark.parametrize('change', [
    nn.Module.double,
    replace_weight,
    lambda network: network.layer2[0].conv1.weight.requires_grad_(False),
    lambda network: network.to(memory_format=torch.channels_last),
    lambda network: setattr(network.layer2[0].conv1.weight, 'data', torch.ones(128, 64, 3, 3)),
    lambda network: network.load_state_dict(
        {key: value.clone() for key, value in network.state_dict().items()}, assign=True),
])
def test_parts_of_an_earlier_step_are_not_shown_for_parameters_that_have_changed(change):
    network, cache, layer = small('resnet10t'), PartCache(), 'layer2.0.conv1'
    shown_in(network, cache)
    change(network)
    found = {id(part.parameter): part.leaf for part in shown_in(network, cache)}
    fresh = {id(part.parameter): part.leaf for part in shown_in(network, PartCache())}
    assert found.keys() == fresh.keys()
    for key, leaf in found.items():
        assert leaf.data_ptr() == fresh[key].data_ptr() and leaf.stride() == fresh[key].stride()
        assert leaf.dtype == fresh[key].dtype
    weight = network.get_submodule(layer).weight
    assert (id(weight) in found) == weight.requires_grad


def test_a_cache_of_parts_does_not_grow_with_random_widths():
    network, cache = small('resnet10t'), PartCache()
    for index in range(parts.MOST + 5):
        shown_in(network, cache, Subnet(0.5 + index / 500, 1))
    assert len(cache._shown) <= parts.MOST


def test_the_gradients_of_two_parts_of_one_parameter_are_added():
    parameter = nn.Parameter(torch.tensor([1., 2., 3., 4.]))
    both = [parts.Part(parameter, cut, cut.of(parameter.detach()).requires_grad_(), ((length,), (1,), start))
            for start, length in ((0, 2), (0, 3)) for cut in [Cut(((0, ((start, length),)),))]]
    carried = CarriedLoss([parameter])
    carried.add(both[0].leaf @ torch.tensor([1., 2.]) + both[1].leaf @ torch.tensor([10., 20., 30.]), both)
    carried.total().backward()
    assert parameter.grad.tolist() == [11, 22, 30, 0]
