"""Integers of an extracted network's modules: those of a network that was built so narrow, and fit to fold."""
import pytest
import timm
import torch
from narrow_networks import PAIRS, narrow_pair, randomised
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.fastvit import RepMixer
from timm.utils import reparameterize_model
from torch import nn

from gradaug_timm import Subnet, activate, extract, load_extracted, make_elastic, save_extracted
from gradaug_timm.elastic.attributes import numbers_of

SUBNET = Subnet(0.5, divisor=1)


def mobileone(width: float = 1.) -> nn.Module:
    """A MobileOne of two stages: blocks of branches, depthwise and pointwise, with identities of BatchNorm."""
    blocks = tuple(ByoBlockCfg(type='one', d=2, c=int(channels * width), gs=group, br=1., s=2,
                               block_kwargs=dict(num_conv_branches=2)) for channels, group in ((16, 0), (32, 1)))
    return ByobNet(ByoModelCfg(blocks=blocks, stem_chs=int(16 * width), stem_type='one'), num_classes=5)


def mixer() -> nn.Module:
    """The mixer of FastViT, which has a block of a norm alone that folds into a depthwise convolution."""
    return nn.Sequential(nn.Conv2d(3, 16, 3), RepMixer(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


FOLDED = {
    'mobileone': mobileone, 'mixer': mixer,
    'fastvit_t8': lambda: timm.create_model(
        'fastvit_t8', num_classes=5, layers=(1, 1, 1, 1), embed_dims=(16, 32, 64, 128)),
    'repvit_m0_9': lambda: timm.create_model(
        'repvit_m0_9', num_classes=5, embed_dim=(16, 24, 32, 48), depth=(1, 1, 1, 1)),
    **{name: lambda name=name: timm.create_model(name, num_classes=5) for name in (
        'mobileone_s0', 'repvgg_a0', 'repghostnet_050', 'ghostnetv3_050', 'lcnetv2_small', 'efficientvit_m0',
        'levit_128s', 'tiny_vit_5m_224', 'shvit_s1')},
}
FIXED_SIZE = ('efficientvit_m0', 'levit_128s', 'tiny_vit_5m_224')
QUICK = ('mobileone', 'mixer', 'repvit_m0_9')
QUICK_PAIRS = ('mobileone', 'grouped', 'vit', 'convnext')


def trained(build) -> nn.Module:
    """A network whose BatchNorms have statistics and weights that are not the initial ones."""
    torch.manual_seed(0)
    network = randomised(build())
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((module.running_mean, -0.2), (module.running_var, 0.8),
                                (module.weight.data, 0.8), (module.bias.data, -0.2)):
                tensor.uniform_(low, low + 0.4)
    return network.eval()


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FOLDED])
@torch.no_grad()
def test_an_extracted_network_can_be_folded(name):
    model = make_elastic(trained(FOLDED[name]))
    side = 224 if name in FIXED_SIZE else 64
    x = torch.randn(2, 3, side, side)
    dense = extract(model, SUBNET)
    with activate(model, SUBNET):
        torch.testing.assert_close(dense(x), model(x))
    folded = reparameterize_model(dense)
    assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in dense.parameters())
    torch.testing.assert_close(folded(x), dense(x), rtol=1e-3, atol=1e-4 * float(dense(x).abs().max()))


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=() if name in QUICK_PAIRS else pytest.mark.slow) for name in (*PAIRS, 'mobileone')])
def test_integers_are_those_of_a_network_that_was_built_so_narrow(name):
    full, narrow, width, divisor = narrow_pair(name) if name in PAIRS else (mobileone(), mobileone(0.5), 0.5, 1)
    found, expected = numbers_of(extract(make_elastic(full.eval()), Subnet(width, divisor))), numbers_of(narrow)
    assert {place: (found.get(place), value) for place, value in expected.items() if found.get(place) != value} == {}


class Attention(nn.Module):
    """Attention over pixels, whose forward pass takes an integer that looks like a count of its channels."""

    def __init__(self, dim: int, gamma: float):
        super().__init__()
        self.hidden_dim = dim
        self.query, self.key, self.value = (nn.Conv2d(dim, dim, 1) for _ in range(3))
        self.gamma = nn.Parameter(torch.tensor([gamma]))

    def forward(self, x):
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weights = (query.transpose(1, 2) @ key * self.hidden_dim ** 0.5).softmax(-1)
        return x + self.gamma * (value @ weights.transpose(1, 2)).reshape(x.shape)


@pytest.mark.parametrize('gamma', [1., 0.])  # which images of one colour, or the initial parameters, would hide
@torch.no_grad()
def test_an_integer_of_which_outputs_depend_stays_though_its_name_is_that_of_a_count(gamma):
    torch.manual_seed(0)
    model = make_elastic(nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), Attention(16, gamma), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))).eval()
    dense, x = extract(model, SUBNET), torch.randn(2, 3, 64, 64)
    for network in (model, dense):
        network[1].gamma.fill_(1)
    with activate(model, SUBNET):
        torch.testing.assert_close(dense(x), model(x))
    assert dense[1].hidden_dim == 16 and dense[1].value.out_channels == 8


@torch.no_grad()
def test_a_file_keeps_the_integers_and_opens_as_a_network_that_can_be_folded(tmp_path):
    kwargs = dict(embed_dim=(16, 24, 32, 48), depth=(1, 1, 1, 1))
    model = make_elastic(trained(FOLDED['repvit_m0_9']))
    dense = save_extracted(model, SUBNET, tmp_path / 'small.safetensors', model_kwargs=kwargs)
    opened, x = load_extracted(tmp_path / 'small.safetensors'), torch.randn(2, 3, 64, 64)
    assert (opened.embed_dim, opened.num_features) == ((8, 12, 16, 24), 24)
    assert numbers_of(opened) == numbers_of(dense)
    torch.testing.assert_close(reparameterize_model(opened)(x), opened(x), rtol=1e-3, atol=1e-4)
