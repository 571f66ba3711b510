"""Elastic networks under the tools of torch: tracers work as with plain networks; what replaces weights is named."""
import copy

import pytest
import timm
import torch
from narrow_networks import randomised
from timm.layers import create_feature_extractor as timms_extractor
from timm.layers import get_graph_node_names
from timm.models.nextvit import NextConvBlock
from timm.utils import reparameterize_model
from torch import nn
from torch.fx import symbolic_trace
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, prune
from torchvision.models.feature_extraction import create_feature_extractor

from gradaug_timm import GradAugTask, Subnet, activate, extract, make_elastic
from gradaug_timm.elastic.supported import check_supported

SUBNET = Subnet(0.5, divisor=1)


def network(name: str = 'test_resnet', **kwargs) -> nn.Module:
    torch.manual_seed(0)
    return randomised(timm.create_model(name, num_classes=5, **kwargs)).eval()


def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def pair():
    plain = network()
    return plain, make_elastic(copy.deepcopy(plain))


@torch.no_grad()
def test_symbolic_tracers_see_the_same_network(pair):
    plain, elastic = pair
    x, nodes = images(), {'layer1.0.conv1': 'inner', 'layer3': 'outer'}
    assert get_graph_node_names(elastic) == get_graph_node_names(plain)
    assert torch.equal(symbolic_trace(elastic)(x), plain(x)) and torch.equal(make_fx(elastic)(x)(x), plain(x))
    for create in (create_feature_extractor, timms_extractor):
        expected, found = create(plain, nodes)(x), create(elastic, nodes)(x)
        assert expected.keys() == found.keys() == set(nodes.values())
        assert all(torch.equal(found[key], expected[key]) for key in expected)


@torch.no_grad()
def test_tracers_see_the_active_subnetwork(pair):
    elastic, x = pair[1], images()
    dense = extract(elastic, SUBNET)
    expected = create_feature_extractor(dense, ['layer3'])(x)['layer3']
    with activate(elastic, SUBNET):
        torch.testing.assert_close(create_feature_extractor(elastic, ['layer3'])(x)['layer3'], expected)
        torch.testing.assert_close(symbolic_trace(elastic)(x), dense(x))
        traced, exported = make_fx(elastic)(x), torch.export.export(elastic, (x,), strict=False)
    torch.testing.assert_close(traced(x), dense(x))  # also after the block
    torch.testing.assert_close(exported.module()(x), dense(x))


@pytest.mark.slow
@torch.no_grad()
def test_parameters_outside_of_layers_are_traced_as_those_of_a_plain_network():
    plain = network('test_vit', img_size=64)
    elastic, x = make_elastic(copy.deepcopy(plain)), images()
    assert get_graph_node_names(elastic) == get_graph_node_names(plain)  # expands the class token to the batch
    expected = timms_extractor(plain, ['blocks.0'])(x)
    torch.testing.assert_close(timms_extractor(elastic, ['blocks.0'])(x), expected)


def _global(model: nn.Module) -> None:
    layers = model.layer1[0].conv1, model.fc
    prune.global_unstructured([(layer, 'weight') for layer in layers], prune.L1Unstructured, amount=0.3)


REPLACED = {
    'pruned': (lambda model: prune.l1_unstructured(model.layer1[0].conv1, 'weight', 0.5),
               'layer1.0.conv1.weight are pruned by torch.nn.utils.prune: make that permanent with '
               'torch.nn.utils.prune.remove'),
    'pruned biases': (lambda model: prune.random_unstructured(model.fc, 'bias', 0.5), 'fc.bias are pruned'),
    'pruned in two steps': (lambda model: [prune.ln_structured(model.fc, 'weight', 0.2, 2, 0) for _ in range(2)],
                            'fc.weight'),
    'pruned globally': (_global, 'layer1.0.conv1.weight, fc.weight are pruned'),
    'spectral norm': (lambda model: nn.utils.spectral_norm(model.fc), 'fc.weight are computed before each pass'),
    'weight norm': (lambda model: nn.utils.weight_norm(model.fc), 'remove_weight_norm'),
    'quantized': (lambda model: torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=True),
                  'fc are quantized: make the network elastic'),
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('what', REPLACED)
def test_weights_that_another_tool_replaced_are_named_with_what_to_do(what):
    replace, message = REPLACED[what]
    model = network()
    replace(model)
    with pytest.raises(ValueError, match='ResNet can\'t run as sub-networks: ') as raised:
        make_elastic(model)
    assert message in str(raised.value) and '\n' not in str(raised.value) and 'deepcopy' not in str(raised.value)


@torch.no_grad()
def test_a_network_pruned_after_it_became_elastic_runs_and_names_the_pruning_when_it_is_extracted(pair):
    model, x = copy.deepcopy(pair[1]), images()
    prune.l1_unstructured(model.layer1[0].conv1, 'weight', 0.5)
    with activate(model, SUBNET):
        active = model(x)
    with pytest.raises(ValueError, match=r'layer1.0.conv1.weight are pruned .*prune.remove'):
        extract(model, SUBNET)
    prune.remove(model.layer1[0].conv1, 'weight')
    torch.testing.assert_close(extract(model, SUBNET)(x), active)


class Positive(nn.Module):
    """A parametrization."""

    def forward(self, weight):
        return weight.abs() + 0.1


@pytest.mark.parametrize('name', ['bn1', 'fc'])
@torch.no_grad()
def test_a_parametrization_that_was_there_before_stays(name):
    model, x = network(), images()
    nn.utils.parametrize.register_parametrization(model.get_submodule(name), 'weight', Positive())
    dense = extract(make_elastic(model), SUBNET)
    with activate(model, SUBNET):
        torch.testing.assert_close(dense(x), model(x))


def test_a_parametrization_of_an_elastic_layer_is_named(pair):
    model = copy.deepcopy(pair[1])
    parametrizations.weight_norm(model.layer1[0].conv1)
    with pytest.raises(ValueError, match=r'layer1.0.conv1 are parametrized since the network is elastic'):
        with activate(model, SUBNET):
            pass


def test_blocks_whose_norms_are_folded_into_the_layers_after_them_are_named():
    model = nn.Sequential(nn.Conv2d(3, 32, 4, 4), NextConvBlock(32, 32, drop_path=0.))
    check_supported(model)
    with pytest.raises(ValueError, match=r'1\.mlp are folded with the norm before them .*before you fold'):
        make_elastic(reparameterize_model(model.eval()))


def test_a_classifier_folded_with_its_norm_is_named_and_a_replaced_one_is_not():
    small = dict(embed_dim=(16, 24, 32, 48), depth=(1, 1, 1, 1))
    model = network('repvit_m0_9', **small)
    model.head = nn.Linear(model.num_features, 3)  # the user's own
    check_supported(model)
    with pytest.raises(ValueError, match=r'head are folded with the norm before them .*before you fold'):
        make_elastic(reparameterize_model(network('repvit_m0_9', **small)))


@pytest.fixture
def one_process(tmp_path):
    """A group of one process."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('whole', [True, False])
def test_a_sharded_network_is_refused_in_one_line(whole, pair, one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    model, mesh = copy.deepcopy(pair[1]), init_device_mesh('cpu', (1,))
    fully_shard(model if whole else model.layer2[0], mesh=mesh)
    for use in (lambda: activate(model, SUBNET).__enter__(), lambda: extract(model, SUBNET),
                lambda: GradAugTask(model, nn.CrossEntropyLoss(), verbose=False)):  # before any step
        with pytest.raises(ValueError, match=r'are divided among processes .*use DDP'):
            use()
    plain = network()
    fully_shard(plain if whole else plain.layer2[0], mesh=mesh)
    with pytest.raises(ValueError, match=r'are divided among processes .*use DDP'):
        make_elastic(plain)


def test_the_older_fsdp_and_tensor_parallel_layers_are_refused_too(pair, one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
    for use_orig_params in (False, True):
        wrapped = FullyShardedDataParallel(
            copy.deepcopy(pair[1]), device_id=torch.device('cpu'), use_orig_params=use_orig_params)
        with pytest.raises(ValueError, match='are divided among processes'):
            with activate(wrapped, SUBNET):
                pass
    model = copy.deepcopy(pair[1])
    parallelize_module(model, init_device_mesh('cpu', (1,)), {'fc': ColwiseParallel()})
    with pytest.raises(ValueError, match=r'fc are divided among processes'):
        with activate(model, SUBNET):
            pass
