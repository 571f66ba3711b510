"""Random depth for networks of many kinds: which blocks are skipped, what that saves, and what remains."""
import copy
from functools import cache, partial

import pytest
import timm
import torch
from narrow_networks import randomised
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from train_helpers import read_summary, train

from gradaug_timm import GradAugSettings, GradAugTask, Subnet, activate, extract, make_elastic
from gradaug_timm.elastic import multiply_adds, num_blocks

SWIN = dict(img_size=64, window_size=4, embed_dim=16, depths=(2, 1), num_heads=(2, 4))
# name -> (how to build it, image size, how many of its blocks have their input as shortcut, last layers of a branch)
NETWORKS = {
    'vit': (partial(timm.create_model, 'test_vit', depth=3), 64, 3, ('attn.proj', 'mlp.fc2')),
    'convnext': (partial(timm.create_model, 'test_convnext', ls_init_value=0.5), 64, 1 + 2 + 4 + 2, ('mlp.fc2',)),
    'swin': (partial(timm.create_model, 'swin_tiny_patch4_window7_224', **SWIN), 64, 3, ('attn.proj', 'mlp.fc2')),
    'efficientnet': (partial(timm.create_model, 'mnasnet_small'), 64, 1 + 0 + 1 + 3 + 3 + 2 + 0, ('bn3', 'bn2')),
    'regnet': (partial(timm.create_model, 'regnetx_002'), 64, 0 + 0 + 3 + 6, ('conv3.bn',)),
    'pvt': (partial(timm.create_model, 'pvt_v2_b0', depths=(2, 1, 1, 1)), 64, 5, ('attn.proj', 'mlp.fc2')),
    # its convolutional blocks halve the image: only the two attentions of each stage are left out
    'maxvit': (partial(timm.create_model, 'test_maxvit', img_size=64), 64, 4 * 2, ('attn.proj', 'mlp.fc2')),
}


@cache
def planned(name: str) -> nn.Module:
    torch.manual_seed(0)
    create, *_ = NETWORKS[name]
    return make_elastic(randomised(create(num_classes=3).eval()))


def network_of(name: str) -> tuple[nn.Module, int]:
    return copy.deepcopy(planned(name)), NETWORKS[name][1]


def images_of(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def block_of(network: nn.Module, index: int) -> nn.Module:
    return network.get_submodule(network._elastic.plan.blocks[index])


def silence(block: nn.Module, layers: tuple[str, ...]) -> None:
    """Makes the branches of a block end in zeros; of bn3 and bn2 the last that is there."""
    modules = dict(block.named_modules())
    found = [modules[layer] for layer in layers if layer in modules]
    for layer in found[:1] if 'bn3' in layers else found:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def own_multiply_adds(network: nn.Module, block: nn.Module, size: int) -> int:
    """What a block costs when it is run alone on what it gets in the network."""
    seen = []
    handle = block.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    network(images_of(size)[:1])
    handle.remove()
    (args, kwargs), = seen
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # others it does not count
        block(*args, **kwargs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=pytest.mark.slow if name in ('maxvit', 'pvt') else ()) for name in NETWORKS])
def test_the_blocks_that_can_be_skipped_are_those_of_the_architecture(name):
    assert num_blocks(planned(name)) == NETWORKS[name][2]


@pytest.mark.parametrize('name', NETWORKS)
def test_a_skipped_block_saves_its_multiply_adds(name):
    network, size = network_of(name)
    full = multiply_adds(network, Subnet(), (3, size, size))
    for index in (0, num_blocks(network) - 1):
        saved = full - multiply_adds(network, Subnet(skipped=(index,)), (3, size, size))
        assert saved == own_multiply_adds(network, block_of(network, index), size) > 0


@pytest.mark.parametrize('name', NETWORKS)
@torch.no_grad()
def test_without_a_block_the_output_is_that_of_a_network_whose_branch_is_silent(name):
    network, size = network_of(name)
    images = images_of(size)
    full = network(images)
    for index in (0, num_blocks(network) - 1):
        silent = copy.deepcopy(network)
        silence(block_of(silent, index), NETWORKS[name][3])
        with activate(network, Subnet(skipped=(index,))):
            output = network(images)
        assert not torch.allclose(output, full)
        torch.testing.assert_close(output, silent(images))
    everything = Subnet(0.5, divisor=1, skipped=tuple(range(num_blocks(network))))
    with activate(network, everything):
        expected = network(images)
    assert torch.equal(extract(network, everything)(images), expected)


@pytest.mark.parametrize('mode', ['depth', 'both'])
@pytest.mark.parametrize('name', NETWORKS)
def test_a_training_step_with_random_depth_has_a_finite_loss_and_gradients(name, mode):
    network, size = network_of(name)
    settings = GradAugSettings(subnets=2, mode=mode, min_survival=0, sizes=(1.0,), seed=1)
    task = GradAugTask(network.train(), nn.CrossEntropyLoss(), settings=settings, verbose=False)
    result = task(images_of(size), torch.tensor([0, 2]))
    result['loss'].backward()
    assert all(torch.isfinite(value).all() for value in result.values())
    assert result['loss_subnet_0'] > 0 and result['loss_subnet_1'] > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_the_training_script_takes_random_depth(image_folder, tmp_path):
    folder = train(
        image_folder, tmp_path, model='test_convnext', model_kwargs=None, img_size=32, gradaug=True,
        gradaug_mode='depth', gradaug_min_survival=0.2)
    row, = read_summary(folder)
    assert float(row['train_loss_subnet_0']) > 0
