"""Sub-networks as files: what `save_extracted` writes, `load_extracted` opens as the same network."""
import copy
import importlib.util
import sys
from functools import cache, partial

import pytest
import timm
import torch
from narrow_networks import randomised
from timm.data import resolve_data_config
from torch import nn

import gradaug_timm
from gradaug_timm import Subnet, activate, extract, load_extracted, make_elastic, save_extracted
from gradaug_timm.elastic import Plan, set_statistics
from gradaug_timm.elastic.features import find_features, tell_features
from gradaug_timm.evaluation import recalibrate
from gradaug_timm.regularizers import add_shake_drop, add_stochastic_depth

SUBNETS = {
    'test_resnet': Subnet(0.5, 8, skipped=(1,)),
    'test_vit': Subnet(0.75, 8, skipped=(0, 4)),
    'test_convnext': Subnet(0.5, 4, skipped=(3,)),
    'test_efficientnet': Subnet(0.75),
    'pyramidnet110_a270': Subnet(0.7, 1, skipped=(0, 2)),
}
KWARGS = {'pyramidnet110_a270': dict(depth=20, alpha=24)}
SIDE = {'test_vit': 160, 'pyramidnet110_a270': 32}


@cache
def elastic(name: str) -> nn.Module:
    """A planned network that isn't in its initial state; not to be changed."""
    torch.manual_seed(0)
    model = randomised(timm.create_model(f'gradaug_{name}', num_classes=6, **KWARGS.get(name, {})))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return make_elastic(model).eval()


def images(name: str) -> torch.Tensor:
    side = SIDE.get(name, 64)
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def save(name: str, path, subnet: Subnet | None = None) -> nn.Module:
    return save_extracted(elastic(name), subnet or SUBNETS[name], path, model_kwargs=KWARGS.get(name))


@pytest.mark.parametrize('name', SUBNETS)
@torch.no_grad()
def test_the_file_opens_as_the_subnetwork(name, tmp_path, monkeypatch):
    dense = save(name, tmp_path / 'small.safetensors')
    with activate(elastic(name), SUBNETS[name]):
        expected = elastic(name)(images(name))
    monkeypatch.setattr('gradaug_timm.elastic.network._plan', None)  # opening it needs no plan
    opened = load_extracted(tmp_path / 'small.safetensors')
    assert torch.equal(opened(images(name)), dense(images(name)))
    torch.testing.assert_close(opened(images(name)), expected)
    assert not any(module.training for module in opened.modules())
    own = dict(dense.named_parameters())
    assert all(torch.equal(tensor, own[key]) and tensor.requires_grad for key, tensor in opened.named_parameters())
    assert opened.state_dict().keys() == dense.state_dict().keys()
    assert {'Elastic', 'Skippable'}.isdisjoint(cls.__name__ for m in opened.modules() for cls in type(m).__mro__)


@pytest.mark.parametrize('name', SUBNETS)
@torch.no_grad()
def test_it_tells_its_features_and_its_classifier_can_be_replaced(name, tmp_path):
    dense = save(name, tmp_path / 'small.safetensors')
    for network in (dense, load_extracted(tmp_path / 'small.safetensors')):
        features, intermediates = network.forward_intermediates(images(name))
        assert network.num_features in features.shape
        assert network.num_features < elastic(name).num_features
        assert [feature['num_chs'] for feature in network.feature_info] == [x.shape[1] for x in intermediates]
        assert network.forward_head(features, pre_logits=True).shape[1] == network.head_hidden_size
        assert network.get_classifier().weight.shape[:2] == (6, network.head_hidden_size)
        network.reset_classifier(4)
        assert network.num_classes == 4
        assert network(images(name)).shape == (2, 4)


def test_it_tells_how_images_are_shown_to_it(tmp_path):
    data = dict(input_size=(3, 48, 48), mean=(.1, .2, .3), std=(.4, .5, .6), interpolation='bilinear', crop_pct=.8,
                crop_mode='squash')
    save_extracted(elastic('test_resnet'), Subnet(0.5), tmp_path / 'small.safetensors', data=data)
    opened = load_extracted(tmp_path / 'small.safetensors')
    assert resolve_data_config({}, model=opened, use_test_size=True) == data
    cfg = opened.pretrained_cfg
    assert (cfg['architecture'], cfg['num_classes'], opened.num_classes) == ('test_resnet', 6, 6)
    assert 'url' not in cfg and 'hf_hub_id' not in cfg  # those of timm's weights


@torch.no_grad()
def test_recalibrated_statistics_are_in_the_file(tmp_path):
    model, subnet = copy.deepcopy(elastic('test_resnet')), Subnet(0.5)
    recalibrate(model, subnet, [3 * images('test_resnet') + 1])
    plain = save(('test_resnet'), tmp_path / 'plain.safetensors', subnet)
    save_extracted(model, subnet, tmp_path / 'recalibrated.safetensors')
    opened = load_extracted(tmp_path / 'recalibrated.safetensors')
    with activate(model, subnet):
        torch.testing.assert_close(opened(images('test_resnet')), model(images('test_resnet')))
    assert not torch.allclose(opened(images('test_resnet')), plain(images('test_resnet')), atol=1e-3)


@torch.no_grad()
def test_copies_of_elastic_and_opened_networks_are_independent(tmp_path):
    path, x, subnet = tmp_path / 'small.safetensors', images('test_resnet'), Subnet(0.5)
    copied = copy.deepcopy(elastic('test_resnet'))
    expected = save_extracted(copied, subnet, path)(x)
    opened = load_extracted(path)
    clone = copy.deepcopy(opened)
    for network in (copied, opened):
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(clone(x), expected)
    assert torch.equal(load_extracted(path)(x), expected)
    assert torch.equal(extract(elastic('test_resnet'), subnet)(x), expected)


@pytest.mark.parametrize('add', [partial(add_shake_drop, alpha=(0, .5)), add_stochastic_depth])
@torch.no_grad()
def test_residual_branches_stay_scaled_as_evaluation_scales_them(add, tmp_path):
    model, subnet, x = copy.deepcopy(elastic('test_resnet')), Subnet(0.5, 8, skipped=(2,)), images('test_resnet')
    add(model, 0.4)
    save_extracted(model, subnet, tmp_path / 'small.safetensors')
    opened = load_extracted(tmp_path / 'small.safetensors')
    with activate(model.eval(), subnet):
        torch.testing.assert_close(opened(x), model(x))
    assert not torch.allclose(opened(x), extract(elastic('test_resnet'), subnet)(x), rtol=1e-3)


@torch.no_grad()
def test_other_channels_pools_types_and_no_classifier_are_kept(tmp_path):
    kwargs = dict(in_chans=1, global_pool='max')
    model = timm.create_model('gradaug_test_resnet', num_classes=0, **kwargs).to(torch.bfloat16).eval()
    dense = save_extracted(model, Subnet(0.5), tmp_path / 'small.safetensors', model_kwargs=kwargs)
    opened = load_extracted(tmp_path / 'small.safetensors')
    x = torch.randn(2, 1, 64, 64, dtype=torch.bfloat16)
    assert torch.equal(opened(x), dense(x))
    assert opened(x).shape == (2, opened.num_features)


def test_extraction_leaves_modes_and_hooks_alone():
    model = copy.deepcopy(elastic('test_resnet')).train()
    model.layer1.eval()
    modes = [module.training for module in model.modules()]
    dense = extract(model, Subnet(0.5))
    assert [module.training for module in dense.modules()] == [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for network in (model, dense) for module in network.modules())


@pytest.mark.parametrize('name', ['resnet20_cifar', 'test_resnet', 'test_efficientnet'])
def test_a_network_in_training_and_its_extract_keep_their_running_statistics(name):
    model = timm.create_model(f'gradaug_{name}', num_classes=5).train()
    for buffer in model.buffers():
        buffer.copy_(torch.rand(buffer.shape) + .5) if buffer.is_floating_point() else buffer.fill_(3)
    before = copy.deepcopy(dict(model.named_buffers()))
    dense = extract(model, Subnet(0.5))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    for name, buffer in dense.named_buffers():
        assert torch.equal(buffer, before[name][:len(buffer)] if buffer.dim() else before[name])


def test_statistics_of_another_subnetwork_are_not_used():
    model = copy.deepcopy(elastic('test_resnet'))
    kept = extract(model, Subnet(0.5)).bn1.num_features
    set_statistics(model, Subnet(0.5), {'bn1': (torch.full((kept,), 7.), torch.ones(kept))})
    assert extract(model, Subnet(0.5)).bn1.running_mean.eq(7).all()
    assert not extract(model, Subnet(0.5, 4)).bn1.running_mean.eq(7).any()


class TwoBranches(nn.Module):
    """Like CrossViT: a feature and a classifier for each branch."""

    def __init__(self, embed_dim: tuple[int, int]):
        super().__init__()
        self.embed_dim, self.num_features, self.head_hidden_size = embed_dim, sum(embed_dim), sum(embed_dim)
        self.branches = nn.ModuleList(nn.Conv2d(3, channels, 3) for channels in embed_dim)
        self.head = nn.ModuleList(nn.Linear(channels, 5) for channels in embed_dim)
        self.feature_info = [dict(num_chs=channels, module=f'branches.{i}') for i, channels in enumerate(embed_dim)]

    def get_classifier(self):
        return self.head

    def forward_features(self, x):
        return [branch(x) for branch in self.branches]

    def forward_head(self, x, pre_logits=False):
        x = [feature.mean((2, 3)) for feature in x]
        return torch.cat(x, 1) if pre_logits else sum(head(feature) for head, feature in zip(self.head, x))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_networks_of_several_features_tell_each():
    full, narrow = TwoBranches((24, 40)), TwoBranches((16, 32))
    features = find_features(full)
    full.branches, full.head = narrow.branches, narrow.head
    tell_features(full, features)
    assert (full.embed_dim, full.num_features, full.head_hidden_size) == ((16, 32), 48, 48)
    assert full.feature_info == narrow.feature_info


def test_importing_the_command_does_not_hide_the_function_of_its_name(monkeypatch):
    monkeypatch.delitem(sys.modules, 'gradaug_timm.extract', raising=False)
    monkeypatch.setattr(gradaug_timm, 'extract', extract)
    imported = importlib.import_module('gradaug_timm.extract')  # as `import gradaug_timm.extract` does
    from gradaug_timm import extract as named
    assert extract is imported is named is gradaug_timm.extract and callable(extract)
    assert importlib.util.find_spec('gradaug_timm.extract').origin.endswith('extract.py')  # the command is still found


@pytest.mark.slow
@pytest.mark.parametrize('name', ['coat_tiny', 'convit_tiny', 'focalnet_tiny_srf', 'levit_128s', 'tiny_vit_5m_224'])
@torch.no_grad()
def test_networks_with_shared_modules_grown_buffers_and_caches_open_as_they_were(name, tmp_path, monkeypatch):
    monkeypatch.setattr('gradaug_timm.elastic.network._plan', lambda network: Plan((), {}))
    model = make_elastic(timm.create_model(name).eval())
    save_extracted(model, Subnet(), tmp_path / 'whole.safetensors')
    x = torch.randn(2, *model.pretrained_cfg['input_size'])
    assert torch.equal(load_extracted(tmp_path / 'whole.safetensors')(x), model(x))
