"""Extracted networks against Torch-Pruning, which cuts the same channels along a dependency graph of its own."""
import copy
import warnings
from functools import partial

import numpy as np
import pytest
import timm
import torch
from narrow_networks import randomised
from timm.models.densenet import DenseNet
from timm.models.hrnet import HighResolutionNet
from torch import nn

from gradaug_timm import Subnet, extract, make_elastic
from gradaug_timm.elastic import Plan

with warnings.catch_warnings():  # of deprecated functions of torch
    warnings.simplefilter('ignore')
    import torch_pruning as tp


def _small_hrnet() -> nn.Module:
    def stage(channels: tuple[int, ...], block: str = 'BASIC') -> dict:
        count = len(channels)
        return dict(num_modules=1, num_branches=count, block_type=block, num_blocks=(1,) * count, num_channels=channels,
                    fuse_method='SUM')
    stages = [stage((8,), 'BOTTLENECK'), stage((16, 32)), stage((16, 32, 64)), stage((16, 32, 64, 128))]
    return HighResolutionNet(
        dict(stem_width=16, **{f'stage{index}': stage for index, stage in enumerate(stages, 1)}), num_classes=5)


NETWORKS = {
    'resnet': partial(timm.create_model, 'test_resnet', num_classes=5),
    'bottleneck': partial(timm.create_model, 'resnet26', num_classes=5, channels=(16, 32, 48, 64)),
    'se_resnet': partial(timm.create_model, 'seresnet18', num_classes=5, channels=(16, 32, 48, 64)),
    'mobilenetv3': partial(timm.create_model, 'mobilenetv3_small_050', num_classes=5),
    'densenet': partial(DenseNet, growth_rate=16, block_config=(2, 2, 2, 2), num_classes=5),
    'hrnet': _small_hrnet,
    'convnext': partial(timm.create_model, 'test_convnext', num_classes=5),
}


@torch.no_grad()
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = randomised(NETWORKS[name]()).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)  # no channel is like another, also where layers start at 0
    return model


def pruned(model: nn.Module, plan: Plan, subnet: Subnet, image: torch.Tensor) -> nn.Module:
    """What Torch-Pruning leaves of a network when the end of each group is cut off one layer that makes it."""
    model = copy.deepcopy(model)
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=image)
    for group, units in enumerate(plan.kept_units(subnet)):
        name, side = next((name.removesuffix('.weight'), sides[0]) for name, sides in plan.tensors.items()
                          if name.endswith('.weight') and sides[0] is not None and group in sides[0].groups
                          and isinstance(model.get_submodule(name.removesuffix('.weight')), nn.Conv2d | nn.Linear))
        dropped = np.flatnonzero((side.group == group) & (side.rank >= units)).tolist()
        layer = model.get_submodule(name)
        prune = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
        if dropped:
            graph.get_pruning_group(layer, prune, dropped).prune()
    return model


@pytest.mark.parametrize('name', NETWORKS)
@torch.no_grad()
def test_torch_pruning_leaves_the_same_network(name):
    model, subnet = network(name), Subnet(0.7, 4)
    image = torch.randn(2, 3, 64, 64)
    elastic = make_elastic(copy.deepcopy(model))
    plan = elastic._elastic.plan
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it says what it does with ConvNeXt's layer scale
        expected = pruned(model, plan, subnet, image)
    dense = extract(elastic, subnet)
    assert not plan.frozen
    weights = {key: value.shape for key, value in dense.state_dict().items()}
    assert weights == {key: value.shape for key, value in expected.state_dict().items()}
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in dense.state_dict().items())
    torch.testing.assert_close(dense(image), expected(image))
    assert sum(p.numel() for p in dense.parameters()) < 0.75 * sum(p.numel() for p in model.parameters())
