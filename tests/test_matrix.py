"""Every combination of network and option trains for a few steps with a finite and decreasing loss."""
import copy
import itertools

import numpy as np
import pytest
import timm
import torch
import torch.distributed as dist
from processes import run_ranks
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from gradaug_timm import GradAugSettings, GradAugTask, PyramidNet, WideResNet
from gradaug_timm.elastic import mark_elastic

CLASSES, STEPS, SIZE = 5, 8, 16
NETWORKS = {
    'resnet': lambda: timm.create_model('gradaug_test_resnet', num_classes=CLASSES),
    'wide_resnet': lambda: mark_elastic(WideResNet(depth=10, widen_factor=1, num_classes=CLASSES)),
    'pyramidnet': lambda: mark_elastic(PyramidNet(depth=8, alpha=12, num_classes=CLASSES)),
}
SETTINGS = GradAugSettings.preset(SIZE, divisor=1, width_steps=2, subnets=3, batch_fraction=1.)


# In bfloat16 the last stage must see more than one pixel: findings/torch_bf16_gradient_of_padding_on_amx.sh.
BF16_SIZE = 2 * SIZE


def _batch(size=SIZE):
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(20) % CLASSES
    images = torch.randn(CLASSES, 3, size, size, generator=generator)[target]
    return images + 0.3 * torch.randn(20, 3, size, size, generator=generator), target


def _train(task, images, target, *, autocast=None, accumulate=1, mixup=None, lr=0.05):
    """Losses of the steps."""
    optimizer = torch.optim.SGD(task.trainable_module.parameters(), lr, momentum=0.9)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        for part in range(accumulate):
            x, y = images[part::accumulate], target[part::accumulate]
            x, y = mixup(x.clone(), y) if mixup else (x, y)
            with torch.autocast('cpu', autocast or torch.bfloat16, enabled=autocast is not None):
                loss = task(x, y)['loss'] / accumulate
            loss.backward()
        optimizer.step()
        task.update_ema(step=step)
        losses.append(loss.item() * accumulate)
    return losses


def _assert_learned(losses):
    assert all(torch.isfinite(torch.tensor(losses))) and sum(losses[-2:]) < sum(losses[:2])


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    np.random.seed(0)  # of timm's Mixup
    return NETWORKS[request.param]()


def _task(network, criterion=None, settings=SETTINGS):
    return GradAugTask(network, criterion or nn.CrossEntropyLoss(), settings=settings)


# the others are slow, on CPUs without bfloat16 above all
ON_RESNET = pytest.mark.parametrize('network', [
    pytest.param(name, marks=pytest.mark.slow if name != 'resnet' else ()) for name in NETWORKS], indirect=True)


@ON_RESNET
def test_bf16(network):
    settings = GradAugSettings.preset(BF16_SIZE, divisor=1, width_steps=2)
    _assert_learned(_train(_task(network, settings=settings), *_batch(BF16_SIZE), autocast=torch.bfloat16))


def test_ema(network):
    task = _task(network)
    start = copy.deepcopy(network.state_dict())
    ema = task.setup_ema(decay=0.5)
    _assert_learned(_train(task, *_batch()))
    trained, averaged = network.state_dict(), ema.module.state_dict()
    name = next(name for name in start if name.endswith('weight'))
    assert not torch.equal(averaged[name], trained[name]) and not torch.equal(averaged[name], start[name])


def test_cutmix(network):
    mixup = Mixup(cutmix_alpha=1.0, num_classes=CLASSES, label_smoothing=0.0, prob=0.5)
    _assert_learned(_train(_task(network, SoftTargetCrossEntropy()), *_batch(), mixup=mixup))


def test_accumulation(network):
    _assert_learned(_train(_task(network), *_batch(), accumulate=2))


def test_checkpointing(network):
    network.set_grad_checkpointing()
    _assert_learned(_train(_task(network), *_batch()))


def test_channels_last(network):
    network.to(memory_format=torch.channels_last)
    images, target = _batch()
    _assert_learned(_train(_task(network), images.contiguous(memory_format=torch.channels_last), target))


def _compiled(network, backend):
    task = _task(network, settings=GradAugSettings.preset(SIZE, divisor=1, width_steps=1, sizes=(0.75,)))
    task.compile(backend=backend)
    return task


@ON_RESNET
def test_compile_makes_one_graph_for_each_width_and_the_full_network(network):
    counter = CompileCounterWithBackend('aot_eager')
    _assert_learned(_train(_compiled(network, counter), *_batch()))
    assert counter.frame_count == 3


@pytest.mark.slow
def test_compile_with_inductor(network):
    _assert_learned(_train(_compiled(network, 'inductor'), *_batch()))


@pytest.mark.parametrize('settings', [GradAugSettings(width_steps=0), GradAugSettings(mode='depth')])
def test_compile_is_refused_where_every_step_would_compile_anew(settings):
    with pytest.raises(ValueError, match='width_steps of at least 1'):
        _task(NETWORKS['resnet'](), settings=settings).compile()


@ON_RESNET
def test_all_together(network):
    network.set_grad_checkpointing()
    network.to(memory_format=torch.channels_last)
    settings = GradAugSettings.preset(BF16_SIZE, divisor=1, mode='both', rotation=(0., 10.))
    task = _task(network, SoftTargetCrossEntropy(), settings)
    task.setup_ema(decay=0.9)
    mixup = Mixup(cutmix_alpha=1.0, mixup_alpha=0.2, num_classes=CLASSES, label_smoothing=0.1, prob=0.5)
    _assert_learned(_train(task, *_batch(BF16_SIZE), autocast=torch.bfloat16, accumulate=2, mixup=mixup))


@pytest.mark.parametrize('preset', ['paper', 'default', 'fast'])
@pytest.mark.parametrize('compiled', [False, True])
def test_presets_train_with_ema_cutmix_accumulation_and_checkpointing_or_compiled(preset, compiled):
    torch.manual_seed(0)
    np.random.seed(0)
    network = NETWORKS['resnet']()
    grid = {'width_steps': 1} if compiled else {}  # paper's widths are continuous
    task = _task(network, SoftTargetCrossEntropy(), GradAugSettings.preset(BF16_SIZE, preset, divisor=1, **grid))
    if compiled:
        task.compile(backend='aot_eager')
    else:
        network.set_grad_checkpointing()
    task.setup_ema(decay=0.9)
    mixup = Mixup(cutmix_alpha=1.0, num_classes=CLASSES, label_smoothing=0.0, prob=0.5)
    _assert_learned(_train(task, *_batch(BF16_SIZE), accumulate=2, mixup=mixup))


def _train_rank(rank: int, init_file: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init_file}', rank=rank, world_size=2)
    fast = GradAugSettings.preset(SIZE, 'fast', divisor=1)
    for make, settings in itertools.product(NETWORKS.values(), (SETTINGS, fast)):
        torch.manual_seed(0)
        task = _task(make(), settings=settings)
        task.prepare_distributed()
        images, target = _batch()
        _assert_learned(_train(task, images[rank::2], target[rank::2]))
        weights = torch.cat([parameter.detach().flatten() for parameter in task.trainable_module.parameters()])
        others = [torch.empty_like(weights) for _ in range(2)]
        dist.all_gather(others, weights)
        assert torch.equal(others[0], others[1]), 'ranks agree on the weights'
    dist.destroy_process_group()


def test_ddp(tmp_path):
    run_ranks(_train_rank, str(tmp_path / 'init'))
