"""Stochastic depth of whole blocks: what runs, what is learnt, what evaluation scales, and what it composes with."""
import copy

import pytest
import timm
import torch
import torch.distributed as dist
from processes import run_ranks
from torch import nn

from gradaug_timm import (
    CifarResNet,
    GradAugSettings,
    GradAugTask,
    PyramidNet,
    Subnet,
    WideResNet,
    activate,
    extract,
    make_elastic,
)
from gradaug_timm.elastic import Skippable, multiply_adds
from gradaug_timm.regularizers import add_drop_block, add_shake_drop, add_stochastic_depth, scale_residuals
from gradaug_timm.task.sampling import survival_probabilities

NETWORKS = {
    'cifar_resnet': lambda: CifarResNet(depth=8, num_classes=5),
    'wide_resnet': lambda: WideResNet(depth=10, widen_factor=1, num_classes=5),
    'pyramidnet': lambda: PyramidNet(depth=8, alpha=12, num_classes=5),
    'resnet': lambda: timm.create_model('test_resnet', num_classes=5, zero_init_last=False),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]()


def _blocks(network) -> list[Skippable]:
    return [module for module in network.modules() if isinstance(module, Skippable)]


def _set_survival(network, survival: list[float]) -> None:
    for block, p in zip(_blocks(network), survival, strict=True):
        block.survival = p


def _images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_survival_falls_linearly_to_the_last_block():
    network = add_stochastic_depth(CifarResNet(depth=14), 0.4)
    assert [block.survival for block in _blocks(network)] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])


def test_each_block_runs_as_often_as_it_survives_and_its_convolutions_are_spared_else():
    torch.manual_seed(0)
    network = add_stochastic_depth(CifarResNet(depth=8, num_classes=5), 0.25)
    runs = dict.fromkeys(_blocks(network), 0)
    for block in runs:
        block.conv2.register_forward_hook(lambda *_, block=block: runs.__setitem__(block, runs[block] + 1))
    for _ in range(1000):
        network(torch.randn(2, 3, 4, 4))
    assert [count / 1000 for count in runs.values()] == pytest.approx([0.75, 0.5, 0.25], abs=0.06)
    network.eval()
    network(_images())
    assert sum(runs.values()) == pytest.approx(1503, abs=100) and min(runs.values()) > 0


def test_a_dropped_block_is_its_shortcut_for_the_whole_batch_and_its_statistics_stay(network):
    add_stochastic_depth(network)
    blocks, seen = _blocks(network), []
    _set_survival(network, [0.] * len(blocks))
    for block in blocks:
        block.register_forward_hook(lambda block, args, output: seen.append((output, block.shortcut(args[0]))))
    network(_images(4))
    assert len(seen) == len(blocks)
    for output, shortcut in seen:
        assert torch.equal(output, shortcut)
    for block in blocks:
        norm = block.bn2 if hasattr(block, 'bn2') else block.norm2
        assert norm.num_batches_tracked == 0 and not norm.running_mean.any()


def test_blocks_that_run_are_not_rescaled_in_training(network):
    plain = copy.deepcopy(network)
    add_stochastic_depth(network)
    _set_survival(network, [1 - 1e-12] * len(_blocks(network)))
    assert torch.equal(network(_images()), plain(_images()))


def test_evaluation_scales_each_branch_by_its_survival():
    torch.manual_seed(1)
    network = WideResNet(depth=10, widen_factor=1, num_classes=5).double().eval()
    images = _images().double()
    by_hand = network.conv1(images)
    for block, p in zip((network.layer1[0], network.layer2[0], network.layer3[0]), (0.8, 0.6, 0.4)):
        shortcut = block.shortcut(by_hand)
        by_hand = shortcut + p * (block(by_hand) - shortcut)
    by_hand = network.forward_head(network.act(network.norm(by_hand)))
    torch.testing.assert_close(add_stochastic_depth(network, 0.4)(images), by_hand)


def test_residuals_are_scaled_as_the_original_evaluates_random_depth():
    torch.manual_seed(1)
    network = CifarResNet(depth=14, num_classes=5).double().eval()
    images = _images().double()
    by_hand = network.act1(network.bn1(network.conv1(images)))
    blocks = [*network.layer1, *network.layer2, *network.layer3]
    for block, p in zip(blocks, survival_probabilities(6, 0.8)):
        branch = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(by_hand)))))
        shortcut = by_hand if block.downsample is None else block.downsample(by_hand)
        by_hand = (shortcut + p * branch).relu()
    by_hand = network.forward_head(by_hand)
    scaled = scale_residuals(network, 0.8)
    torch.testing.assert_close(scaled(images), by_hand)


def test_no_key_changes_and_a_checkpoint_of_the_plain_network_loads(network):
    state = copy.deepcopy(network.state_dict())
    add_stochastic_depth(network)
    assert list(network.state_dict()) == list(state)
    network.load_state_dict(state)


def test_parameters_of_a_dropped_block_get_zeros_and_momentum_moves_them_on(network):
    add_stochastic_depth(network)
    blocks = _blocks(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    _set_survival(network, [1.] * len(blocks))
    network(_images(4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    _set_survival(network, [0.] * len(blocks))
    weight = blocks[0].conv2.weight
    before = weight.detach().clone()
    network(_images(4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert torch.equal(weight.grad, torch.zeros_like(weight))
    optimizer.step()
    assert not torch.equal(weight, before)


def test_frozen_parameters_of_a_dropped_block_stay_without_gradient():
    network = add_stochastic_depth(CifarResNet(depth=8, num_classes=5))
    _set_survival(network, [0., 1., 1.])
    frozen = network.layer1[0].conv1.weight.requires_grad_(False)
    network(_images()).sum().backward()
    assert frozen.grad is None and network.layer1[0].conv2.weight.grad is not None


def test_networks_without_such_blocks_are_refused():
    with pytest.raises(ValueError, match=r'VisionTransformer has no residual blocks .* BasicBlock, Bottleneck'):
        add_stochastic_depth(timm.create_model('test_vit'))
    with pytest.raises(ValueError, match='survival=0 must be above 0'):
        add_stochastic_depth(CifarResNet(depth=8), 0)


@pytest.mark.parametrize('width', [1.0, 0.5])
def test_sub_networks_and_copies_evaluate_as_scaled_as_the_whole(network, width):
    add_stochastic_depth(network, 0.3)
    make_elastic(network).eval()
    duplicate, subnet = copy.deepcopy(network), Subnet(width, 1)
    dense = extract(network, subnet)
    with activate(network, subnet):
        expected = network(_images())
    torch.testing.assert_close(dense(_images()), expected)
    with activate(duplicate, subnet):
        torch.testing.assert_close(duplicate(_images()), expected)
    if width == 1:
        torch.testing.assert_close(network(_images()), expected)
    assert [block.survival for block in _blocks(duplicate)] == [block.survival for block in _blocks(network)]


def test_an_extracted_network_still_drops_blocks_in_training(network):
    add_stochastic_depth(network)
    dense = extract(make_elastic(network), Subnet(0.5, 1))
    assert [block.survival for block in _blocks(dense)] == [block.survival for block in _blocks(network)]
    _set_survival(dense, [1e-12] * len(_blocks(dense)))
    blocks, seen = _blocks(dense), []
    for block in blocks:
        block.register_forward_hook(lambda block, args, output: seen.append((output, block.shortcut(args[0]))))
    dense(_images())
    assert len(seen) == len(blocks) and all(torch.equal(output, shortcut) for output, shortcut in seen)


@pytest.mark.parametrize('add', [add_shake_drop, add_drop_block, add_stochastic_depth])
def test_sub_networks_stay_as_narrow_as_without_a_regulariser(network, add):
    if add is add_drop_block and isinstance(network, WideResNet):
        pytest.skip('wide ResNets have no place for DropBlock')
    subnet, size = Subnet(0.5, 1), (3, 32, 32)
    expected = multiply_adds(make_elastic(copy.deepcopy(network)), subnet, size)
    make_elastic(add(network)).eval()
    dense = extract(network, subnet)
    assert multiply_adds(network, subnet, size) == multiply_adds(dense, None, size) == expected
    with activate(network, subnet):
        torch.testing.assert_close(network(_images()), dense(_images()))


def _train(task, steps: int = 6, rank: int = 0) -> None:
    optimizer = torch.optim.SGD(task.trainable_module.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        optimizer.zero_grad()
        images = torch.randn(4, 3, 32, 32, generator=generator)
        with torch.autocast('cpu', torch.bfloat16):
            loss = task(images, torch.arange(4))['loss']
        assert torch.isfinite(loss)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize('settings', [
    GradAugSettings(subnets=0),
    GradAugSettings.preset(32, divisor=1),
    GradAugSettings.preset(32, divisor=1, mode='both'),
], ids=['plain', 'width', 'both'])
def test_it_trains_with_mixed_precision_alone_and_with_gradaug(network, settings):
    task = GradAugTask(add_stochastic_depth(network, 0.3), nn.CrossEntropyLoss(), settings=settings)
    task.setup_ema(decay=0.5)
    _train(task)
    task.update_ema(step=1)
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_checkpointing_repeats_the_draws():
    network = add_stochastic_depth(CifarResNet(depth=20, num_classes=5), 0.3)
    gradients = []
    for enable in (False, True):
        network.set_grad_checkpointing(enable)
        torch.manual_seed(3)
        gradients.append(torch.autograd.grad(network(_images()).square().sum(), list(network.parameters())))
    for actual, expected in zip(*gradients):
        torch.testing.assert_close(actual, expected)


def test_a_skipped_block_with_drop_block_on_its_shortcut_leaves_its_input_alone():
    network = make_elastic(add_drop_block(CifarResNet(depth=14, num_classes=5), 0.1)).eval()
    subnet = Subnet(1.0, 1, skipped=(3, 5))
    with activate(network, subnet):
        expected = network(_images())
        gradient = torch.autograd.grad(expected.sum(), network.conv1.weight)
    torch.testing.assert_close(extract(network, subnet)(_images()), expected)
    assert torch.isfinite(gradient[0]).all()


def _run_rank(rank: int, init_file: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init_file}', rank=rank, world_size=2)
    for settings in (GradAugSettings(subnets=0), GradAugSettings.preset(32, divisor=1)):
        torch.manual_seed(0)
        task = GradAugTask(
            add_stochastic_depth(CifarResNet(depth=14, num_classes=5), 0.3), nn.CrossEntropyLoss(), settings=settings)
        task.prepare_distributed()
        torch.manual_seed(rank)  # every rank drops blocks of its own
        _train(task, rank=rank)
        weights = torch.cat([parameter.detach().flatten() for parameter in task.trainable_module.parameters()])
        others = [torch.empty_like(weights) for _ in range(2)]
        dist.all_gather(others, weights)
        assert torch.equal(others[0], others[1]), 'ranks agree on the weights'
    dist.destroy_process_group()


def test_two_processes_that_drop_different_blocks_agree_on_the_weights(tmp_path):
    run_ranks(_run_rank, str(tmp_path / 'init'))
