"""DropBlock against its definition, its places in the networks, and its ramp through real runs."""
import pytest
import timm
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from train_helpers import make_image_folder, train

from gradaug_timm import CifarResNet, GradAugSettings, GradAugTask, PyramidNet, WideResNet
from gradaug_timm.regularizers import (
    DropBlock,
    DropBlockRamp,
    add_drop_block,
    add_shake_drop,
    add_stochastic_depth,
    drop_block,
)


def _layers(network) -> list[DropBlock]:
    return [module for module in network.modules() if isinstance(module, DropBlock)]


def _survives_alone(height: int, width: int, size: int, gamma: float) -> torch.Tensor:
    """The probability of each position to be kept: no block that covers it was drawn."""
    tall, wide = min(size, height), min(size, width)
    covering = torch.zeros(height, width)
    for top in range(height - tall + 1):
        for left in range(width - wide + 1):
            covering[top:top + tall, left:left + wide] += 1
    return (1 - gamma) ** covering


@pytest.mark.parametrize('size', [2, 3, 7])
def test_what_is_dropped_are_whole_blocks_inside_the_map(size):
    torch.manual_seed(0)
    dropped = drop_block(torch.ones(20, 4, 12, 10), 0.1, size) == 0
    assert 0 < dropped.float().mean() < 0.3
    for image in dropped.flatten(0, 1):
        inside = torch.zeros_like(image)
        for top, left in ((t, l) for t in range(13 - size) for l in range(11 - size)):
            block = (slice(top, top + size), slice(left, left + size))
            if image[block].all():
                inside[block] = True
        assert torch.equal(inside, image), 'each dropped position is part of a whole dropped block'


@pytest.mark.parametrize('shape, size', [((14, 14), 7), ((12, 9), 4), ((7, 7), 7), ((4, 3), 7), ((1, 1), 7)])
def test_each_position_is_kept_as_often_as_the_definition_says(shape, size):
    torch.manual_seed(0)
    height, width = shape
    tall, wide = min(size, height), min(size, width)
    gamma = 0.1 / (tall * wide) * (height * width) / ((height - tall + 1) * (width - wide + 1))
    kept = (drop_block(torch.ones(400, 50, *shape), torch.tensor(0.1), size) != 0).float().mean((0, 1))
    torch.testing.assert_close(kept, _survives_alone(height, width, size, gamma), atol=0.01, rtol=0)


def test_channels_and_images_have_blocks_of_their_own():
    torch.manual_seed(0)
    masks = drop_block(torch.ones(6, 6, 16, 16), 0.2, 5).ne(0).flatten(0, 1)
    assert len({mask.numpy().tobytes() for mask in masks}) == 36


def test_the_rest_is_scaled_to_the_mean_of_all_and_gradients_alike():
    torch.manual_seed(0)
    x = (torch.rand(8, 3, 14, 14) + 1).requires_grad_()
    y = drop_block(x, 0.2)
    kept = y != 0
    factor = kept.numel() / kept.sum()
    torch.testing.assert_close(y, torch.where(kept, x * factor, 0))
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(kept, factor, 0.))


def test_a_batch_that_loses_everything_becomes_zeros():
    assert not drop_block(torch.ones(2, 3, 7, 7), 1.).any()


def test_rate_zero_and_evaluation_change_nothing():
    x = torch.randn(2, 3, 14, 14)
    layer = DropBlock(0.5)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(drop_block(x, 0.), x)


def test_it_keeps_type_and_layout():
    x = torch.randn(2, 4, 9, 9, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    y = drop_block(x, torch.tensor(0.1))
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)


def test_resnet50_has_it_after_all_convolutions_and_shortcuts_of_the_last_two_stages():
    with torch.device('meta'):
        network = timm.create_model('resnet50')
    keys = list(network.state_dict())
    add_drop_block(network, 0.1)
    assert list(network.state_dict()) == keys
    assert not _layers(network.layer1) and not _layers(network.layer2)
    assert len(_layers(network.layer3)) == 6 * 4 and len(_layers(network.layer4)) == 3 * 4
    assert {layer.rate for layer in _layers(network.layer3)} == {0.025}
    assert {layer.rate for layer in _layers(network.layer4)} == {0.1}
    assert {layer.size for layer in _layers(network)} == {7}


NETWORKS = {
    'bottleneck': lambda: timm.models.ResNet(
        timm.models.resnet.Bottleneck, [1, 1, 2, 2], channels=(8, 8, 16, 16), num_classes=5),
    'basic': lambda: timm.create_model('test_resnet', num_classes=5),
    'avg_down': lambda: timm.create_model(
        'resnet18d', layers=(1, 1, 2, 2), channels=(8, 8, 16, 16), num_classes=5),
    'cifar_resnet': lambda: CifarResNet(depth=14, num_classes=5),
    'pyramidnet': lambda: PyramidNet(depth=14, alpha=12, num_classes=5),
    'pyramid_bottleneck': lambda: PyramidNet(depth=20, alpha=12, bottleneck=True, num_classes=5),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]()


def test_each_convolution_and_shortcut_of_the_last_two_stages_has_one(network):
    add_drop_block(network, 0.1)
    stages = [module for name, module in network.named_children() if name.startswith('layer')]
    assert not any(_layers(stage) for stage in stages[:-2])
    for block in (block for stage in stages[-2:] for block in stage):
        on_branch = [module for name, module in block.named_children() if name.startswith('conv')]
        assert len(_layers(block)) == len(on_branch) + 1


def test_a_block_that_loses_everything_gives_zeros_where_branch_and_shortcut_both_pass_it(network):
    add_drop_block(network, 0.1)
    ended = {}
    for name, module in network.named_modules():
        if hasattr(module, 'drop_path') and _layers(module):
            module.register_forward_hook(lambda _, __, output, name=name: ended.__setitem__(name, output))
    for layer in _layers(network):
        layer.current.fill_(1e9)
    network(torch.randn(2, 3, 64, 64))
    assert ended and not any(output.any() for output in ended.values())


def test_inference_is_unchanged(network):
    x = torch.randn(2, 3, 64, 64)
    expected = network.eval()(x)
    assert torch.equal(add_drop_block(network, 0.1)(x), expected)


def test_a_checkpoint_of_the_plain_network_loads(network):
    state = network.state_dict()
    add_drop_block(network, 0.1).load_state_dict(state)
    assert list(network.state_dict()) == list(state)


def test_gradaug_trains_a_network_with_it(network):
    task = GradAugTask(
        add_drop_block(network, 0.1), nn.CrossEntropyLoss(),
        settings=GradAugSettings.preset(32, divisor=1, mode='both', min_survival=0.5))
    result = task(torch.randn(4, 3, 64, 64), torch.arange(4))
    result['loss'].backward()
    assert torch.isfinite(result['loss'])
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize('other', [add_shake_drop, add_stochastic_depth])
def test_it_joins_another_regulariser_at_the_end_of_a_branch_but_not_the_other_way_round(other):
    network = other(CifarResNet(depth=8, num_classes=5))
    end = network.layer3[0].drop_path
    add_drop_block(network, 0.1)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert [type(part) for part in network.layer3[0].drop_path] == [DropBlock, type(end)]
    with pytest.raises(ValueError, match='already has Sequential'):
        other(add_drop_block(CifarResNet(depth=8, num_classes=5)))


def test_a_network_without_such_blocks_is_refused():
    with pytest.raises(ValueError, match='WideResNet has no place for DropBlock; supported blocks: BasicBlock'):
        add_drop_block(WideResNet(depth=10, widen_factor=1))


@pytest.mark.parametrize('arguments, part', [(dict(rate=1.), 'rate=1.0 must be'), (dict(size=0), 'size=0 must be')])
def test_arguments_out_of_range_are_refused(arguments, part):
    with pytest.raises(ValueError, match=part):
        add_drop_block(CifarResNet(depth=8), **arguments)


def test_a_rising_rate_needs_one_graph():
    torch._dynamo.reset()
    network = add_drop_block(CifarResNet(depth=8, num_classes=5), 0.1)
    ramp, counter = DropBlockRamp(network, 10), CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(network, backend=counter, fullgraph=True)
    outputs = []
    for done in (0, 5, 10):
        ramp.set(done)
        torch.manual_seed(0)
        outputs.append(compiled(torch.randn(2, 3, 32, 32)).sum().item())
    assert counter.frame_count == 1 and len(set(outputs)) == 3, 'the compiled graph sees each rate'


@pytest.fixture
def rates(monkeypatch):
    """The rate of the last stage at each step of a run."""
    seen = []
    forward = CifarResNet.forward

    def watched(self, x):
        if self.training:
            seen.append(round(float(_layers(self.layer3)[0].current), 6))
            assert _layers(self.layer2)[0].current == pytest.approx(seen[-1] / 4, abs=1e-6)
        return forward(self, x)

    monkeypatch.setattr(CifarResNet, 'forward', watched)
    return seen


FLAGS = dict(model='resnet20_cifar', paper_drop_block=0.2, batch_size=4, epochs=2)


def test_the_rate_of_a_run_rises_with_its_updates_also_after_a_resume(tmp_path, rates):
    data = make_image_folder(tmp_path / 'data')
    expected = [0., 0.05, 0.1, 0.15]
    train(data, tmp_path, experiment='whole', **FLAGS)
    assert rates == pytest.approx(expected)
    rates.clear()
    train(data, tmp_path, experiment='parts', stop_epoch=1, **FLAGS)
    assert rates == pytest.approx(expected[:2])
    train(data, tmp_path, experiment='parts', resume='auto', **FLAGS)
    assert rates == pytest.approx(expected)


def test_accumulated_batches_share_a_rate_and_a_constant_one_stays(tmp_path, rates):
    data = make_image_folder(tmp_path / 'data')
    train(data, tmp_path, **{**FLAGS, 'batch_size': 2, 'grad_accum_steps': 2})
    assert rates == pytest.approx([0., 0., 0.05, 0.05, 0.1, 0.1, 0.15, 0.15])
    rates.clear()
    train(data, tmp_path, experiment='constant', paper_drop_block_schedule='constant', **FLAGS)
    assert rates == pytest.approx([0.2] * 4)
