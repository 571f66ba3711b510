"""Private parts of torch in `gradaug_timm.upstream` still behave as the package needs."""
from types import SimpleNamespace

import pytest
import timm
import timm.layers
import torch
from timm.utils import NativeScaler
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from gradaug_timm import upstream
from gradaug_timm.task import loss_scale

# torch.nn

@pytest.mark.parametrize('dims', [1, 2, 3])
def test_layers_of_all_dimensions_share_their_bases(dims):
    batch_norm, instance_norm = (getattr(nn, f'{kind}Norm{dims}d')(2) for kind in ('Batch', 'Instance'))
    assert isinstance(batch_norm, upstream.AnyBatchNorm) and not isinstance(instance_norm, upstream.AnyBatchNorm)
    assert isinstance(batch_norm, upstream.AnyRunningNorm) and isinstance(instance_norm, upstream.AnyRunningNorm)
    for kind in ('Conv', 'ConvTranspose'):
        assert isinstance(getattr(nn, f'{kind}{dims}d')(1, 2, 3), upstream.AnyConvolution)


def test_other_layers_have_other_bases():
    assert isinstance(nn.SyncBatchNorm(2), upstream.AnyBatchNorm)
    assert isinstance(timm.layers.BatchNormAct2d(2), upstream.AnyBatchNorm)
    for layer in (nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.Linear(1, 2)):
        assert not isinstance(layer, (upstream.AnyRunningNorm, upstream.AnyConvolution))


def test_tables_of_a_module_show_all_that_it_holds_and_writing_to_them_changes_it():
    module = nn.BatchNorm1d(2)
    module.register_parameter('absent', None)
    module.twice = module.weight
    assert list(upstream.own_parameters(module)) == ['weight', 'bias', 'absent', 'twice']
    assert list(upstream.own_buffers(module)) == ['running_mean', 'running_var', 'num_batches_tracked']
    upstream.own_parameters(module)['weight'] = nn.Parameter(torch.full((2,), 3.))
    upstream.own_buffers(module)['running_mean'] = torch.ones(2)
    torch.testing.assert_close(module.eval()(torch.ones(1, 2)), torch.zeros(1, 2))
    torch.testing.assert_close(module(torch.full((1, 2), 2.)), torch.full((1, 2), 3.), atol=1e-4, rtol=0)

    act = nn.ReLU()
    parent = nn.Sequential(act, act)
    parent.register_module('absent', None)
    assert upstream.own_modules(parent) == {'0': act, '1': act, 'absent': None}


def test_tables_of_a_module_are_attributes_of_these_names():
    module = nn.BatchNorm1d(2)
    assert getattr(module, upstream.PARAMETERS) is upstream.own_parameters(module)
    assert getattr(module, upstream.BUFFERS) is upstream.own_buffers(module)


def test_attributes_of_any_module_are_known():
    module = nn.Linear(2, 3)
    module.compile(backend='eager')
    assert vars(module).keys() - upstream.MODULE_ATTRIBUTES == {'in_features', 'out_features'}


def test_removed_forward_hooks_are_not_called():
    module, calls = nn.Identity(), []
    module.register_forward_hook(lambda *_: calls.append(1))
    module.register_forward_hook(lambda *_: calls.append(2), always_call=True)
    module.register_forward_hook(lambda *_: calls.append(3), with_kwargs=True)
    module.register_forward_pre_hook(lambda *_: calls.append(4))
    module.register_forward_pre_hook(lambda *_: calls.append(5), with_kwargs=True)
    module(1)
    assert sorted(calls) == [1, 2, 3, 4, 5]
    upstream.remove_forward_hooks(module)
    module(1)
    assert len(calls) == 5


def test_gradient_hooks_are_seen_while_they_are_there():
    parameters = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]
    parameters[0].register_post_accumulate_grad_hook(lambda _: None)
    assert not upstream.have_gradient_hooks(parameters)
    handle = parameters[1].register_hook(lambda gradient: gradient)
    assert upstream.have_gradient_hooks(parameters)
    handle.remove()
    assert not upstream.have_gradient_hooks(parameters)


def test_hooks_of_torch_name_the_weights_that_they_compute():
    layer = nn.Linear(2, 2)
    assert upstream.pruned_parameters(layer) == upstream.weights_of_hooks(layer) == []
    prune.random_unstructured(layer, 'weight', 0.5)
    prune.random_unstructured(layer, 'bias', 0.5)
    prune.random_unstructured(layer, 'bias', 0.5)  # in a container of methods
    assert upstream.pruned_parameters(layer) == ['weight', 'bias'] and upstream.weights_of_hooks(layer) == []
    assert upstream.weights_of_hooks(nn.utils.spectral_norm(nn.Linear(2, 2))) == ['weight']


def test_quantized_and_sharded_modules_are_recognised_by_class():
    layer = nn.Sequential(nn.Linear(2, 2))
    assert not upstream.is_quantized(layer[0])
    assert not any(map(upstream.is_sharded, (layer[0], layer[0].weight, None)))
    quantized = torch.ao.quantization.quantize_dynamic(layer, {nn.Linear})
    assert upstream.is_quantized(quantized[0])
    assert all(upstream.is_sharded(type(name, (nn.Module,), {})()) for name in upstream.SHARDING)
    assert {FullyShardedDataParallel.__name__, FSDPModule.__name__} < upstream.SHARDING
    layer[0].weight.ds_id = 3  # of DeepSpeed's third stage
    assert upstream.is_sharded(layer[0].weight)


# torch's kernels

def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in ((3,), (2, 4), ())]


def test_lists_of_tensors_are_added_multiplied_and_copied_in_place():
    changed, others = tensors(), [tensor + 1 for tensor in tensors()]
    upstream.foreach_add_(changed, others)
    torch.testing.assert_close(changed, [2 * tensor + 1 for tensor in tensors()])
    upstream.foreach_mul_(changed, torch.tensor(3.))
    torch.testing.assert_close(changed, [6 * tensor + 3 for tensor in tensors()])
    upstream.foreach_copy_(changed, others)
    torch.testing.assert_close(changed, others)


@pytest.mark.parametrize('value', [2., -5., float('inf'), float('nan')])
def test_largest_magnitudes_of_a_list_are_vector_norms(value):
    list_of = [*tensors(), torch.tensor([1., value])]
    expected = [torch.linalg.vector_norm(tensor, float('inf')) for tensor in list_of]
    torch.testing.assert_close(list(upstream.foreach_norm(list_of, float('inf'))), expected, equal_nan=True)


@pytest.mark.parametrize('value, found', [(1., 0.), (float('inf'), 1.), (float('nan'), 1.)])
def test_gradients_are_unscaled_in_place_and_an_overflow_is_found(value, found):
    gradients, overflow = [*tensors(), torch.tensor([value, 4.])], torch.zeros(())
    upstream.foreach_unscale_(gradients, overflow, torch.tensor(0.5))
    torch.testing.assert_close(gradients[:3], [tensor / 2 for tensor in tensors()])
    assert gradients[3][1] == 2 and overflow == found


def test_a_scale_halves_after_an_overflow_and_doubles_after_an_interval_without():
    scale, growth = torch.tensor(8.), torch.tensor(0, dtype=torch.int32)
    seen = []
    for overflow in (1., 0., 0., 0., 1.):
        upstream.update_scale_(scale, growth, torch.tensor(overflow), 2., 0.5, 3)
        seen.append((scale.item(), growth.item()))
    assert seen == [(4., 0), (4., 1), (4., 2), (8., 0), (4., 0)]


def test_the_layout_of_a_tensor_is_told():
    images = torch.zeros(2, 3, 4, 4)
    assert upstream.suggest_memory_format(images) == torch.contiguous_format
    assert upstream.suggest_memory_format(images.to(memory_format=torch.channels_last)) == torch.channels_last


def test_the_tensor_of_a_loss_scaler_is_its_scale_and_halves_after_an_overflow():
    scaler, weight = NativeScaler(device='cpu'), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.)
    assert upstream.loss_scale_tensor(scaler) is None
    scaler((weight * 1.).sum(), optimizer)
    scale = upstream.loss_scale_tensor(scaler).clone()
    assert scale.dim() == 0 and scale.dtype == torch.float32 and scale == 2. ** 16
    optimizer.zero_grad()
    scaler((weight * float('inf')).sum(), optimizer)
    assert upstream.loss_scale_tensor(scaler) == scale / 2


def test_our_loss_scale_has_the_numbers_of_torchs_own():
    scaler = torch.amp.GradScaler('cpu')
    assert (scaler.get_scale(), scaler.get_growth_factor(), scaler.get_backoff_factor(),
            scaler.get_growth_interval()) == (
        loss_scale.INITIAL_SCALE, loss_scale.GROWTH_FACTOR, loss_scale.BACKOFF_FACTOR, loss_scale.GROWTH_INTERVAL)


@torch.no_grad()
def test_operations_are_counted_as_torch_counts_them():
    network = timm.create_model('test_vit').eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # others it does not count
        network(torch.zeros(2, 3, 160, 160))
    with upstream.FlopCount() as count:
        network(torch.zeros(2, 3, 160, 160))
    assert count.total == counter.get_total_flops() > 0


# torch.compile

def test_modes_of_compilation_are_those_that_it_takes():
    modes = upstream.compile_modes()
    assert {'default', 'reduce-overhead', 'max-autotune'} <= {*modes}
    for mode in modes:
        torch.compile(nn.Identity(), mode=mode)
    with pytest.raises(RuntimeError, match='nonsense'):
        torch.compile(nn.Identity(), mode='nonsense')


def test_a_compiled_network_is_known_and_unwrapped():
    network = nn.Linear(1, 1)
    wrapper = torch.compile(network, backend='eager')
    assert upstream.is_compiled(wrapper) and not upstream.is_compiled(network)
    assert upstream.compiled_network(wrapper) is network


def test_graphs_and_their_breaks_are_counted():
    @torch.compiler.disable
    def uncompiled(x):
        return x + 1

    before, breaks = upstream.graphs_made(), upstream.graph_breaks()
    torch.compile(lambda x: x * 2, backend='eager')(torch.ones(2))
    assert (upstream.graphs_made() - before, upstream.graph_breaks() - breaks) == (1, 0)
    torch.compile(lambda x: uncompiled(x * 3) * 4, backend='eager')(torch.ones(2))
    assert (upstream.graphs_made() - before, upstream.graph_breaks() - breaks) == (3, 1)


def test_one_graph_more_than_the_limit_is_an_error_and_the_limit_ends_with_its_context():
    def function(x):
        return x * 5

    before, compiled = upstream.recompile_limit(), torch.compile(function, backend='eager', dynamic=False)
    with upstream.recompile_limited(2):
        assert upstream.recompile_limit() == 2
        compiled(torch.ones(2)), compiled(torch.ones(3))
        with pytest.raises(upstream.recompile_limit_error()):
            compiled(torch.ones(4))
    assert upstream.recompile_limit() == before is None


def test_the_limit_has_the_names_of_torch_2_6_too(monkeypatch):
    patched = {}
    config = SimpleNamespace(
        cache_size_limit=8, accumulated_cache_size_limit=256, fail_on_cache_limit_hit=True, patch=patched.update)
    monkeypatch.setattr(torch._dynamo, 'config', config)
    assert upstream.recompile_limit() == 8
    upstream.recompile_limited(300)
    assert patched == {
        'cache_size_limit': 300, 'accumulated_cache_size_limit': 300, 'fail_on_cache_limit_hit': True}
