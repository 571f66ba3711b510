"""Unusual layers: buffers that training changes, parameters that are used only in places."""
import copy

import pytest
import torch
import torch.nn.functional as F
from narrow_networks import leading
from timm.layers import EvoNorm2dB0, FilterResponseNormTlu2d
from torch import nn
from torch.nn.utils import parametrizations, prune, remove_weight_norm, weight_norm

from gradaug_timm import Subnet, activate, extract, make_elastic
from gradaug_timm.elastic import is_elastic

SUBNET = Subnet(0.5, divisor=1)


class FunctionalNorm(nn.Module):
    """A BatchNorm that isn't torch's module."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(channels) + 0.5), nn.Parameter(torch.randn(channels))
        self.register_buffer('mean', torch.randn(channels))
        self.register_buffer('var', torch.rand(channels) + 0.5)

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, self.training)


class Centre(nn.Module):
    """A layer that replaces its buffer instead of updating it."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer('mean', torch.randn(channels))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3))
        return x - self.mean[:, None, None]


LAYERS = {
    'functional_norm': FunctionalNorm,
    'centre': Centre,
    'instance_norm': lambda channels: nn.InstanceNorm2d(channels, affine=True, track_running_stats=True),
    'evo_norm': EvoNorm2dB0,
    'filter_response_norm': FilterResponseNormTlu2d,
    'prelu': nn.PReLU,
}


class Net(nn.Module):
    """Two convolutions with some layer between."""

    def __init__(self, layer, channels=16):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, channels, 3), nn.Conv2d(channels, channels, 3)
        self.layer, self.fc = layer(channels), nn.Linear(channels, 5)

    def forward(self, x):
        return self.fc(self.conv2(self.layer(self.conv1(x))).mean((2, 3)))


@pytest.fixture(autouse=True)
def images():
    torch.manual_seed(0)
    return torch.randn(3, 3, 16, 16)


def _pair(layer) -> tuple[nn.Module, nn.Module]:
    """An elastic network, and one of half as many channels with the leading slices of its parameters and buffers."""
    full, narrow = Net(layer), Net(layer, channels=8)
    for parameter in full.layer.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    source = full.state_dict()
    for key, tensor in narrow.state_dict().items():
        tensor.copy_(leading(source[key], tensor.shape))
    return make_elastic(full), narrow


def _buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(dict(model.named_buffers()))


def _are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('layer', LAYERS.values(), ids=LAYERS)
def test_a_subnetwork_with_the_layer_equals_a_narrow_network_and_leaves_buffers_alone(layer, training, images):
    full, narrow = _pair(layer)
    full.train(training), narrow.train(training)
    before = _buffers(full)
    with activate(full, SUBNET):
        output = full(images)
    assert _are_equal(_buffers(full), before)
    torch.testing.assert_close(output, narrow(images))
    full(images)
    assert _are_equal(_buffers(full), before) == (not training or not before)


def test_a_full_width_subnetwork_may_update_all_statistics(images):
    full, _ = _pair(FunctionalNorm)
    before = _buffers(full)
    with activate(full.train(), Subnet(updates_statistics=True)):
        full(images)
    assert not torch.equal(full.layer.mean, before['layer.mean'])


def test_the_power_iteration_of_spectral_norm_is_left_to_the_full_network(images):
    full = Net(nn.BatchNorm2d)
    parametrizations.spectral_norm(full.conv1)
    before = _buffers(make_elastic(full).train())
    with activate(full, SUBNET):
        full(images).sum().backward()
    assert _are_equal(_buffers(full), before)


@pytest.mark.parametrize('add, remove', [
    (lambda layer: prune.l1_unstructured(layer, 'weight', amount=0.5), lambda layer: prune.remove(layer, 'weight')),
    (weight_norm, remove_weight_norm)])
def test_hooks_that_make_weights_come_and_go(add, remove, images):
    full = make_elastic(Net(nn.BatchNorm2d)).eval()
    add(full.conv1)
    with activate(full, SUBNET):
        full(images)
    remove(full.conv1)
    assert 'conv1.weight' in dict(full.named_parameters())
    with activate(full, SUBNET):
        assert torch.equal(full(images), extract(full, SUBNET)(images))


class Calling(nn.Module):
    """A network whose last step is some function of the features and of the network."""

    def __init__(self, function):
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3), nn.Linear(8, 4)
        self.function = function

    def forward(self, x):
        return self.function(self, self.conv1(x))


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = torch.jit.trace(nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 8, 8)), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize('network, words', [
    (nn.Identity(), 'no convolution or linear layer'),
    (Calling(lambda net, x: None), 'must return a tensor or a list of tensors'),
    (Calling(lambda net, x: {'logits': x}), 'must return a tensor or a list of tensors'),
    (Calling(lambda net, x: x['image']), r'fails on an image of \(3, 224, 224\) \(IndexError: '),
    (Calling(lambda net, x: x.image), r'fails on an image of \(3, 224, 224\) \(AttributeError: '),
    (Scripted(), r'planning fails \(RuntimeError: ')])
def test_whatever_a_network_raises_its_refusal_is_one_line(network, words):
    with pytest.raises(ValueError, match=f'^{type(network).__name__} can\'t run as sub-networks: .*{words}') as caught:
        make_elastic(network)
    assert '\n' not in str(caught.value) and not is_elastic(network)


@pytest.mark.parametrize('function', [
    lambda x: x * {16: 2.}[x.shape[1]], lambda x: x * (1 // (x.shape[1] // 16))], ids=['KeyError', 'ZeroDivisionError'])
def test_channels_stay_whole_where_the_network_raises_anything_without_some(function):
    model = make_elastic(Calling(lambda net, x: net.fc(net.conv2(function(x)).mean((2, 3)))))
    dense = extract(model, SUBNET)
    assert (dense.conv1.out_channels, dense.conv2.in_channels, dense.conv2.out_channels) == (16, 16, 4)
