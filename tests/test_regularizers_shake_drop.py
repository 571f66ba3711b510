"""ShakeDrop against its formula: forward, backward, expected value, decay, and what it composes with."""
import copy

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from gradaug_timm import CifarResNet, GradAugSettings, GradAugTask, PyramidNet, Subnet, WideResNet, activate
from gradaug_timm.regularizers import LEVELS, ResidualScale, ShakeDrop, add_shake_drop, residual_places, shake

SHAPE = (3, 4, 5, 6)
SHARED_DIMS = {'batch': (0, 1, 2, 3), 'image': (1, 2, 3), 'channel': (2, 3), 'pixel': ()}
NETWORKS = {
    'cifar_resnet': lambda: CifarResNet(depth=8, num_classes=5),
    'wide_resnet': lambda: WideResNet(depth=10, widen_factor=1, num_classes=5),
    'pyramidnet': lambda: PyramidNet(depth=8, alpha=12, num_classes=5),
    'resnet': lambda: timm.create_model('test_resnet', num_classes=5),
    'vit': lambda: timm.create_model('test_vit', num_classes=5, img_size=32, dynamic_img_size=True),
}


def _factors(layer: ShakeDrop, shape=SHAPE) -> tuple[torch.Tensor, torch.Tensor]:
    """What one pass multiplies its input by, and its gradient; float64."""
    x = (torch.rand(shape, dtype=torch.float64) + 1).requires_grad_()
    y = layer(x)
    gradient, = torch.autograd.grad(y, x, torch.full_like(y, 3.))
    return (y / x).detach(), gradient / 3


@pytest.mark.parametrize('gate', [0., 1.])
def test_forward_and_backward_are_the_papers_formula(gate):
    torch.manual_seed(0)
    x, weights = torch.randn(2, *SHAPE, dtype=torch.float64)
    alpha, beta = torch.randn(2, *SHAPE, dtype=torch.float64)
    x.requires_grad_()
    y = shake(x, torch.tensor(gate, dtype=torch.float64), alpha, beta)
    y.mul(weights).sum().backward()
    torch.testing.assert_close(y, x * (alpha if gate == 0 else 1), rtol=1e-15, atol=0)
    torch.testing.assert_close(x.grad, weights * (beta if gate == 0 else 1), rtol=1e-15, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_an_open_gate_changes_nothing_in_any_precision(dtype):
    x = torch.randn(SHAPE, dtype=dtype, requires_grad=True)
    y = ShakeDrop(1.)(x)
    y.backward(x.detach())
    assert torch.equal(y, x) and torch.equal(x.grad, x)


@pytest.mark.parametrize('level', LEVELS)
def test_factors_are_shared_as_the_level_says_and_lie_in_their_ranges(level):
    torch.manual_seed(1)
    forward, backward = _factors(ShakeDrop(1e-12, alpha=(-1., -0.5), beta=(0.25, 0.75), level=level))
    for factor, low, high in ((forward, -1, -0.5), (backward, 0.25, 0.75)):
        assert factor.min() >= low and factor.max() <= high
        shared = factor.amax(SHARED_DIMS[level]) if SHARED_DIMS[level] else factor
        assert torch.allclose(factor, factor.mean(SHARED_DIMS[level], keepdim=True) if SHARED_DIMS[level] else factor)
        assert shared.unique().numel() == shared.numel(), 'one draw for each'
    assert not torch.allclose((forward + 1) * 2, (backward - 0.25) * 2), 'alpha and beta are drawn apart'


def test_channels_of_tokens_are_their_last_dimension():
    forward, _ = _factors(ShakeDrop(1e-12, level='channel'), (2, 7, 4))
    assert torch.allclose(forward, forward[:, :1]) and forward[:, 0].unique().numel() == 8


@pytest.mark.parametrize('level', LEVELS)
def test_a_gate_opens_for_the_whole_batch_in_both_directions_with_the_survival_probability(level):
    torch.manual_seed(2)
    layer, opened = ShakeDrop(0.7, level=level), 0
    for _ in range(2000):
        forward, backward = _factors(layer, (2, 2, 1, 1))
        is_open = bool((forward - 1).abs().max() < 1e-12)
        assert is_open == bool((backward - 1).abs().max() < 1e-12)
        opened += is_open
    assert opened / 2000 == pytest.approx(0.7, abs=0.04)  # four standard deviations


@pytest.mark.parametrize('alpha', [(-1., 1.), (0., 1.), (-0.5, 0.1)])
def test_evaluation_multiplies_by_the_mean_of_training(alpha):
    torch.manual_seed(3)
    layer = ShakeDrop(0.6, alpha=alpha)
    mean = sum(layer(torch.ones(64, dtype=torch.float64)) for _ in range(4000)).mean() / 4000
    layer.eval()
    x = torch.randn(SHAPE, dtype=torch.float64)
    factor = (layer(x) / x).unique()
    torch.testing.assert_close(layer(x), x * layer.expected_factor)
    assert float(mean) == pytest.approx(float(factor.mean()), abs=0.03)


def test_survival_falls_linearly_to_the_last_branch():
    network = add_shake_drop(WideResNet(depth=28, widen_factor=1), 0.4)
    survival = [module.survival for module in network.modules() if isinstance(module, ShakeDrop)]
    assert survival == pytest.approx([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4])


@pytest.mark.parametrize('name', NETWORKS)
def test_every_residual_branch_of_a_network_passes_it_and_no_key_changes(name):
    network = NETWORKS[name]()
    keys, calls = list(network.state_dict()), []
    add_shake_drop(network, 0.5)
    layers = [module for module in network.modules() if isinstance(module, ShakeDrop)]
    for index, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, index=index: calls.append(index))
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert calls == list(range(len(layers))) and layers
    assert list(network.state_dict()) == keys


def test_a_network_in_evaluation_scales_each_branch():
    torch.manual_seed(4)
    network = WideResNet(depth=10, widen_factor=1, num_classes=5).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    by_hand = network.act1(network.bn1(network.conv1(x)))
    for block, factor in zip((network.layer1[0], network.layer2[0], network.layer3[0]), (0.8, 0.6, 0.4)):
        branch = block(by_hand) - block.shortcut(by_hand)
        by_hand = block.shortcut(by_hand) + factor * branch
    by_hand = network.forward_head(network.act(network.norm(by_hand)))
    torch.testing.assert_close(add_shake_drop(network, 0.4)(x), by_hand)


def test_dropped_paths_of_timm_are_replaced():
    network = add_shake_drop(timm.create_model('test_resnet', drop_path_rate=0.5))
    assert not any(isinstance(module, DropPath) for module in network.modules())


def test_a_network_without_a_place_or_with_a_taken_one_is_refused():
    with torch.device('meta'):
        network = timm.create_model('vgg11')
    with pytest.raises(ValueError, match='VGG has no place'):
        add_shake_drop(network)
    with pytest.raises(ValueError, match='already has ShakeDrop'):
        add_shake_drop(add_shake_drop(timm.create_model('test_resnet')))


@pytest.mark.parametrize('arguments, message', [
    (dict(survival=0.), 'survival=0.0 must be above 0'),
    (dict(survival=0.5, alpha=(1., -1.)), r'alpha=\(1.0, -1.0\) must be a range'),
    (dict(survival=0.5, level='row'), "level='row' must be one of batch, image, channel, pixel"),
])
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShakeDrop(**arguments)


def test_a_survival_out_of_range_leaves_the_network_as_it_was():
    network = CifarResNet(depth=14, num_classes=5)
    with pytest.raises(ValueError, match=r'survival=-0\.5 must be above 0'):
        add_shake_drop(network, -0.5)
    assert not any(isinstance(module, ShakeDrop) for module in network.modules())


def _gradients(network, x) -> list[torch.Tensor]:
    torch.manual_seed(5)
    return torch.autograd.grad(network(x).square().sum(), list(network.parameters()))


def test_checkpointing_repeats_the_draws():
    network = add_shake_drop(CifarResNet(depth=20, num_classes=5), 0.3)
    x = torch.randn(2, 3, 32, 32)
    expected = _gradients(network, x)
    network.set_grad_checkpointing()
    for actual, gradient in zip(_gradients(network, x), expected):
        torch.testing.assert_close(actual, gradient)


@pytest.mark.parametrize('level', LEVELS)
def test_it_compiles_to_one_graph(level):
    torch._dynamo.reset()
    network = add_shake_drop(WideResNet(depth=10, widen_factor=1, num_classes=5), 0.5, level=level)
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(network, backend=counter, fullgraph=True)
    for _ in range(3):
        compiled(torch.randn(2, 3, 16, 16)).sum().backward()
    assert counter.frame_count == 1


@pytest.mark.parametrize('level', LEVELS)
def test_it_keeps_type_and_layout(level):
    x = torch.randn(SHAPE, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    y = ShakeDrop(0.5, level=level)(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == torch.bfloat16
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (y, x.grad))


@pytest.mark.parametrize('name', ['cifar_resnet', 'wide_resnet', 'pyramidnet', 'resnet'])
def test_gradaug_trains_a_network_with_it(name):
    torch.manual_seed(6)
    network = add_shake_drop(NETWORKS[name](), 0.5)
    task = GradAugTask(network, nn.CrossEntropyLoss(), settings=GradAugSettings.preset(32, mode='both', divisor=1))
    with torch.autocast('cpu', torch.bfloat16):
        result = task(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))
    result['loss'].backward()
    assert torch.isfinite(result['loss'])
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    duplicate = copy.deepcopy(network).eval()
    x = torch.randn(2, 3, 32, 32)
    with activate(network.eval(), Subnet(0.5, 1)), activate(duplicate, Subnet(0.5, 1)):
        torch.testing.assert_close(duplicate(x), network(x))


def _on_meta(name: str):
    with torch.device('meta'):
        return timm.create_model(name)


@pytest.mark.parametrize('name, branches', [
    ('efficientnet_b0', 9), ('rexnet_100', 11), ('ese_vovnet39b', 2), ('mobileone_s0', 35), ('repvgg_a0', 17),
    ('hgnetv2_b0', 1), ('xception41', 12), ('regnetz_005', 17), ('efficientformerv2_s0', 18), ('cspnext_tiny', 3),
    ('mobilevit_xxs', 21),
])
def test_blocks_of_timm_without_an_addition_are_no_places(name, branches):
    assert len(residual_places(_on_meta(name))) == branches


@pytest.mark.parametrize('name', ['ese_vovnet19b_dw', 'rdnet_tiny'])
def test_a_network_whose_blocks_only_concatenate_is_refused(name):
    with pytest.raises(ValueError, match='has no place for it'):
        add_shake_drop(_on_meta(name))


def test_places_with_names_of_their_own_are_found():
    names = {name for _, name in residual_places(_on_meta('nextvit_small'))}
    assert names == {'attn_drop_path', 'mhca_drop_path', 'mhsa_drop_path', 'mlp_drop_path'}


@pytest.mark.parametrize('name, size', [('ese_vovnet39b', 64), ('test_byobnet', 64), ('regnetx_002', 32)])
def test_without_any_branch_the_image_still_reaches_the_result(name, size):
    network = timm.create_model(name, num_classes=5).eval()
    for block, place in residual_places(network):
        setattr(block, place, ResidualScale(0.))
    a, b = network(torch.randn(2, 3, size, size))
    assert (a - b).abs().max() > 1e-6 * a.abs().max()
