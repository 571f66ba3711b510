"""Passes that would repeat the full network's pass are skipped without changing the training."""
import copy

import pytest
import timm
import torch
from naive import gradient, naive_loss, relative_error
from torch import nn

from gradaug_timm import GradAugSettings, GradAugTask, Subnet, make_elastic
from gradaug_timm.task.repeats import is_whole, random_states, rng_unchanged
from gradaug_timm.task.sampling import draw_step

CLASSES, BLOCKS, SIZE = 4, 3, 16
TOLERANCE = 1e-5  # relative: the pass that isn't run has a gradient of rounding errors, around 1e-8
WHOLE = GradAugSettings.preset(  # all sub-networks are the network itself
    SIZE, subnets=3, batch_fraction=1., min_width=1.0, sizes=(1.0,))


class CountedTask(GradAugTask):
    """Counts the passes of its network."""
    passes = 0

    def __init__(self, model, criterion=None, **given):
        super().__init__(model, criterion or nn.CrossEntropyLoss(), **given)
        model.register_forward_pre_hook(self._count)

    def _count(self, *_):
        self.passes += 1


class UnskippedTask(CountedTask):
    """Runs all passes."""

    def _repeats(self, input, draws):
        return set()


def make_model(**kwargs):
    torch.manual_seed(0)
    return timm.create_model('gradaug_resnet20_cifar', num_classes=CLASSES, depth=8, **kwargs).train()


def make_batch(step=0):
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(6, 3, SIZE, SIZE, generator=generator)
    return images, torch.randint(0, CLASSES, (6,), generator=generator)


def train(task, steps=10):
    optimizer = torch.optim.SGD(task.trainable_module.parameters(), 0.001)  # so that rounding doesn't grow
    losses = []
    for step in range(steps):
        result = task(*make_batch(step))
        optimizer.zero_grad()
        result['loss'].backward()
        optimizer.step()
        losses.append([value.item() for name, value in result.items() if name.startswith('loss')])
    return losses, gradient(task.trainable_module)


def size_of(draw):
    resize, = draw.transform.steps
    return resize.value


@pytest.mark.parametrize('given', [dict(), dict(temperature=2.0, weight=0.5)])
def test_losses_and_gradients_are_those_of_a_run_with_all_passes(given):
    settings = GradAugSettings.preset(
        SIZE, subnets=3, batch_fraction=1., sizes=(1.0, 0.75), width_steps=1, **given)
    skipping, running = (kind(make_model(), settings=settings) for kind in (CountedTask, UnskippedTask))
    (losses, last), (expected, expected_last) = train(skipping), train(running)
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), rtol=TOLERANCE, atol=TOLERANCE)
    assert relative_error(last, expected_last) < TOLERANCE
    draws = [draw_step(settings, step, num_blocks=BLOCKS) for step in range(10)]
    whole = [sum(draw.subnet == Subnet() and size_of(draw) == 1.0 for draw in step) for step in draws]
    assert sum(whole) > 2
    assert running.passes - skipping.passes == sum(whole)


def test_where_all_passes_repeat_the_full_one_the_gradient_is_the_full_ones():
    model = make_model()
    twin = copy.deepcopy(model)
    task = CountedTask(model, settings=WHOLE)
    result = task(*make_batch())
    result['loss'].backward()
    naive_loss(twin, *make_batch(), GradAugSettings(subnets=0), 0, num_blocks=BLOCKS).backward()
    assert task.passes == 1
    assert relative_error(gradient(model), gradient(twin)) < TOLERANCE
    assert [result[f'loss_subnet_{index}'].item() for index in range(3)] == [0, 0, 0]


def test_independent_classes_keep_the_entropy_of_their_targets():
    tasks = [kind(make_model(), nn.BCEWithLogitsLoss(), settings=WHOLE) for kind in (CountedTask, UnskippedTask)]
    images, target = make_batch()
    skipped, run = (task(images, nn.functional.one_hot(target, CLASSES).float()) for task in tasks)
    assert skipped['loss_subnet_0'] > 0.1
    torch.testing.assert_close(dict(skipped), dict(run), rtol=1e-5, atol=1e-6)


class Noisy(nn.Module):
    """Adds noise in training."""

    def forward(self, x):
        return x + torch.randn_like(x) if self.training else x


class Running(nn.Module):
    """Subtracts the running mean, which its pass moves."""

    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.zeros(()))

    def forward(self, x):
        self.mean = (0.9 * self.mean + 0.1 * x.mean()).detach()
        return x - self.mean


def behind(first: nn.Module) -> nn.Module:
    model = make_model()
    model.conv1 = nn.Sequential(first, model.conv1)
    return model.train()


@pytest.mark.parametrize('make, given', [
    (lambda: make_model(drop_rate=0.5), dict()),
    (lambda: behind(Noisy()), dict()),
    (lambda: behind(Running()), dict()),
    (make_model, dict(batch_fraction=0.5)),
    (make_model, dict(rotation=(90.0,))),
    (make_model, dict(sizes=(0.75,))),
    (make_model, dict(mode='depth', min_survival=0.0)),
    (make_model, dict(mode='depth', statistics='all', min_survival=1.0)),
], ids=['dropout', 'noise', 'running mean', 'part of the batch', 'rotated', 'resized', 'depth', 'statistics'])
def test_passes_that_teach_something_are_run(make, given):
    whole = {'subnets': 3, 'batch_fraction': 1., 'min_width': 1.0, 'sizes': (1.0,)}
    task = CountedTask(make(), settings=GradAugSettings.preset(SIZE, **{**whole, **given}))
    task(*make_batch())
    assert task.passes == 4


def test_a_width_that_rounds_up_to_everything_is_whole():
    model = make_elastic(nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)))
    whole = {width: is_whole(model, Subnet(width, 8)) for width in (0.8, 0.9, 0.95, 1.0)}
    assert whole == {0.8: False, 0.9: True, 0.95: True, 1.0: True}  # 28.8 of 32 channels round to 32, 25.6 to 24
    assert not is_whole(model, Subnet(0.95, 1))
    assert not is_whole(make_model(), Subnet(skipped=(0,)))


def test_random_numbers_are_noticed():
    device = torch.device('cpu')
    before = random_states(device)
    assert rng_unchanged(device, before)
    torch.rand(1)
    assert not rng_unchanged(device, before)
    assert not rng_unchanged(torch.device('meta'), random_states(torch.device('meta')))


@pytest.mark.gpu
def test_random_numbers_of_the_device_are_noticed_without_waiting_for_it():
    device = torch.device('cuda', torch.cuda.current_device())
    torch.cuda.set_sync_debug_mode('error')
    try:
        before = random_states(device)
        assert rng_unchanged(device, before)
        torch.rand(1, device=device)
        assert not rng_unchanged(device, before)
    finally:
        torch.cuda.set_sync_debug_mode('default')
