"""Gradients of the kept parts of parameters, against autograd's gradients of whole parameters."""
import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import prune

from gradaug_timm import GradAugSettings, GradAugTask, Subnet
from gradaug_timm.elastic import activate, make_elastic, show_parts
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
