"""The loops of docs/other_loops.md, run as they stand; those in two processes against one process."""
import os
import re
from functools import partial
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from naive import relative_error
from processes import SERVER, free_port, run_ranks
from timm.layers import GroupNorm
from torch import nn

from gradaug_timm import GradAugTask, Subnet, activate

PLAIN, FP16, ACCELERATE, STEPS, LIGHTNING, DETECTOR, DETECTOR_TASK, TRANSFORMERS, GROUPS, TRAINER = range(10)


@pytest.fixture(scope='module')
def blocks(project_root):
    text = (project_root / 'docs' / 'other_loops.md').read_text()
    return re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL)


def run(*blocks) -> dict:
    names = {'__name__': 'other_loops'}
    for block in blocks:
        exec(block, names)
    return names


def weights(task) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in task.parameters()])


def use_group_norm(names: dict) -> dict:
    """Networks that treat images independently of each other, so that halves of a batch add up to it."""
    norm = partial(GroupNorm, num_groups=8)
    names['build'] = partial(names['build'], norm_layer=lambda channels, **kwargs: norm(channels, **kwargs))
    return names


def recording(seen: list):
    forward = GradAugTask.forward

    def recorded(task, *batch):
        seen.append(batch)
        return forward(task, *batch)
    return patch.object(GradAugTask, 'forward', recorded)


def run_rank(rank: int, blocks: list[str], call: str, port: int, out: str) -> None:
    """The blocks and then `call`, in a process that was started as by torchrun; writes its batches and weights."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=f'{rank}', LOCAL_RANK=f'{rank}', WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
        MASTER_PORT=f'{port}', GLOO_SOCKET_IFNAME='lo')
    names, seen = use_group_norm(run(*blocks)), []
    with recording(seen):
        task = eval(call, names)
    torch.save({'weights': weights(task), 'seen': seen}, f'{out}.{rank}')
    if dist.is_initialized():
        dist.destroy_process_group()


def train_whole(names: dict, batches: list, *, accumulate: int) -> GradAugTask:
    """One process that sees the batches of both."""
    task, optimizer = names['build']()
    for index, (images, labels) in enumerate(batches, 1):
        (task(images, labels)['loss'] / accumulate).backward()
        if index % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return task


def losses_in_bf16(names: dict) -> list[float]:
    """The plain loop under torch.autocast: CPUs with native bfloat16 round otherwise than those without."""
    task, optimizer = names['build']()
    losses = []
    for images, labels in names['DataLoader'](names['dataset'], batch_size=4):
        with torch.autocast('cpu', torch.bfloat16):
            loss = task(images, labels)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


TWO_PROCESSES = {
    'accelerate': (ACCELERATE, 'train_by_accelerate()[0]', 1),
    'accelerate, accumulating': (ACCELERATE, 'train_by_accelerate(gradient_accumulation_steps=3)[0]', 3),
    'lightning': (LIGHTNING, 'train_by_lightning(devices=2, strategy="ddp").task', 1),
    'lightning, accumulating': (
        LIGHTNING, 'train_by_lightning(devices=2, strategy="ddp", accumulate_grad_batches=3).task', 3),
}
SLOW = 'accelerate', 'lightning', 'lightning, accumulating'


@pytest.mark.parametrize('block, call, accumulate', [
    pytest.param(*case, id=name, marks=pytest.mark.slow if name in SLOW else ())
    for name, case in TWO_PROCESSES.items()])
def test_two_processes_give_the_weights_of_one_that_sees_both_their_batches(
        blocks, tmp_path, block, call, accumulate):
    pytest.importorskip('accelerate' if block == ACCELERATE else 'lightning')
    plain = blocks[PLAIN].replace('subnets=2,', 'subnets=2, batch_fraction=1.,')  # two halves are not half of the whole
    assert plain != blocks[PLAIN]
    needed = [plain, blocks[block]]
    run_ranks(run_rank, needed, call, free_port(), str(tmp_path / 'out'))
    ranks = [torch.load(tmp_path / f'out.{rank}') for rank in range(2)]
    images = torch.cat([batch[0] for rank in ranks for batch in rank['seen']])
    assert len(images) == len(images.flatten(1).unique(dim=0)) == 12, 'each image was seen once'
    pairs = [tuple(map(torch.cat, zip(*both))) for both in zip(*(rank['seen'] for rank in ranks))]
    whole = train_whole(use_group_norm(run(plain)), pairs, accumulate=accumulate)
    start = weights(use_group_norm(run(plain))['build']()[0])
    assert torch.equal(ranks[0]['weights'], ranks[1]['weights'])
    assert relative_error(ranks[0]['weights'] - start, weights(whole) - start) < 1e-3


def test_accelerate_gives_the_losses_of_the_plain_loop(blocks):
    pytest.importorskip('accelerate')
    names = run(blocks[PLAIN], blocks[ACCELERATE].replace('batch_size=2', 'batch_size=4'))
    assert len(set(names['plain'])) == 3
    assert names['train_by_accelerate']()[1] == pytest.approx(names['plain'], rel=1e-5)


def test_accelerate_in_bf16_gives_the_losses_of_the_plain_loop_under_autocast(blocks):
    pytest.importorskip('accelerate')
    call = 'train_by_accelerate(mixed_precision="bf16")[1]'
    with SERVER.Pool(1) as pool:  # Accelerate keeps the first precision of a process
        losses = pool.apply(_evaluated, ([blocks[PLAIN], blocks[ACCELERATE].replace('size=2', 'size=4')], call))
    names = run(blocks[PLAIN])
    assert losses == pytest.approx(losses_in_bf16(names), rel=1e-5)
    assert losses != pytest.approx(names['plain'], rel=1e-5)


def _evaluated(blocks: list[str], call: str):
    torch.set_num_threads(1)
    return eval(call, run(*blocks))


def test_accelerate_saves_the_number_of_the_step(blocks):
    pytest.importorskip('accelerate')
    names = run(blocks[PLAIN], blocks[ACCELERATE], blocks[STEPS])
    names['task'].load_task_state({'step': 7, 'loss_scale': {}})
    state = names['Steps'](names['task']).state_dict()
    other = names['build']()[0]
    names['Steps'](other).load_state_dict(state)
    assert other.step == 7


def test_lightning_gives_the_losses_of_the_plain_loop_and_keeps_the_number_of_the_step(blocks):
    pytest.importorskip('lightning')
    names = run(blocks[PLAIN], blocks[LIGHTNING])
    assert names['module'].losses == pytest.approx(names['plain'], rel=1e-5)
    checkpoint = {}
    names['module'].on_save_checkpoint(checkpoint)
    other = names['Module']()
    other.on_load_checkpoint(checkpoint)
    assert other.task.step == 3


def test_lightning_in_bf16_gives_the_losses_of_the_plain_loop_under_autocast(blocks):
    pytest.importorskip('lightning')
    names = run(blocks[PLAIN], blocks[LIGHTNING])
    losses = names['train_by_lightning'](batch_size=4, devices=1, precision='bf16-mixed').losses
    assert losses == pytest.approx(losses_in_bf16(names), rel=1e-5)
    assert losses != pytest.approx(names['plain'], rel=1e-5)


def test_the_loop_in_fp16_accumulates_as_a_plain_one(blocks):
    names = use_group_norm(run(blocks[PLAIN], blocks[FP16]))
    batches = [names['dataset'][start:start + 3] for start in range(0, 12, 3)]
    start = weights(names['build']()[0])
    moved = weights(names['train_in_fp16'](batches)) - start
    exact = weights(train_whole(names, batches, accumulate=2)) - start
    assert 1e-5 < relative_error(moved, exact) < 5e-2


def test_a_torchvision_detector_trains_with_and_without_sub_networks(blocks):
    names = run(blocks[PLAIN], blocks[DETECTOR], blocks[DETECTOR_TASK])
    assert type(names['detector']).__module__.startswith('torchvision.')
    for detector in (names['detector'], names['task'].detector):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.backbone.parameters())
    assert 'loss_subnet_0' in names['result']


def test_transformers_backbone_gives_timms_maps_and_runs_as_a_sub_network(blocks):
    pytest.importorskip('transformers')
    names = run('import timm, torch, gradaug_timm', blocks[TRANSFORMERS])
    assert [each.shape for each in names['narrow']] == [each.shape for each in names['maps']]
    images, backbone = torch.randn(2, 3, 64, 64), names['backbone']
    twin = names['timm'].create_model('test_resnet', features_only=True, out_indices=(3, 4)).eval()
    twin.load_state_dict(backbone._backbone.state_dict())
    with torch.no_grad():
        full = backbone(images).feature_maps
        for ours, theirs in zip(full, twin(images), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
        with activate(backbone._backbone, Subnet(0.5)):
            narrow = backbone(images).feature_maps
        assert not any(torch.allclose(a, b, atol=1e-3) for a, b in zip(narrow, full))
        assert all(map(torch.equal, backbone(images).feature_maps, full))


def test_transformers_backbone_learns_as_a_sub_network(blocks):
    pytest.importorskip('transformers')
    names = run('import timm, torch, gradaug_timm', blocks[TRANSFORMERS])
    backbone = names['backbone'].train()
    with activate(backbone._backbone, Subnet(0.5)):
        sum(each.square().mean() for each in backbone(torch.randn(2, 3, 64, 64)).feature_maps).backward()
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    assert any(torch.count_nonzero(conv.weight.grad) < conv.weight.numel() / 2 for conv in convolutions)


def train_in_true_groups(names: dict, batches: list, steps: int) -> GradAugTask:
    """Each update is from the mean gradient of its batches, also the last one."""
    task, optimizer = names['build']()
    for start in range(0, len(batches), steps):
        group = batches[start:start + steps]
        for images, labels in group:
            (task(images, labels)['loss'] / len(group)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return task


def test_the_last_incomplete_group_gets_its_whole_gradient_in_accelerate_and_lightning(blocks):
    pytest.importorskip('accelerate')
    pytest.importorskip('lightning')
    names = run(*(blocks[index] for index in (PLAIN, ACCELERATE, LIGHTNING, GROUPS)))
    batches = list(names['DataLoader'](names['dataset'], batch_size=4))
    assert len(batches) == 3
    start = weights(names['build']()[0])
    exact = weights(train_in_true_groups(names, batches, 2)) - start
    assert relative_error(weights(names['train_in_groups'](2)) - start, exact) < 1e-3
    errors = {}
    for name in ('Module', 'GroupModule'):
        names['Module'] = names[name]
        module = names['train_by_lightning'](batch_size=4, devices=1, accumulate_grad_batches=2)
        errors[name] = relative_error(weights(module.task) - start, exact)
    assert errors['GroupModule'] < 1e-3 < 0.1 < errors['Module'], 'as the page says of Lightning alone'


@pytest.mark.parametrize('accepts, factor', [(False, 1), pytest.param(True, 3, marks=pytest.mark.slow)])
def test_the_wrapper_for_transformers_trainer_gets_the_gradient_of_a_plain_loop(blocks, tmp_path, accepts, factor):
    pytest.importorskip('transformers')
    pytest.importorskip('accelerate')
    names, seen = run(blocks[PLAIN], blocks[TRAINER]), []
    model = names['Classifier']()
    model.accepts_loss_kwargs = accepts
    with recording(seen):
        names['train_by_trainer'](model, str(tmp_path), gradient_accumulation_steps=3)
    assert len(seen) == 3
    start = weights(names['build']()[0])
    exact = weights(train_in_true_groups(names, seen, 3)) - start
    assert relative_error(weights(model.task) - start, factor * exact) < 1e-3


@pytest.mark.slow
def test_fp16_of_accelerate_on_the_cpu_is_float32(blocks):
    pytest.importorskip('accelerate')
    call = 'train_by_accelerate(mixed_precision="fp16")[1]'
    with SERVER.Pool(1) as pool:  # Accelerate keeps the first precision of a process
        losses = pool.apply(_evaluated, ([blocks[PLAIN], blocks[ACCELERATE].replace('size=2', 'size=4')], call))
    assert losses == pytest.approx(run(blocks[PLAIN])['plain'], rel=1e-5)
