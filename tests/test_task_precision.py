"""Mixed precision: bf16, and fp16 with a scaler, without one, and with an overflow."""
import copy

import pytest
import torch
from naive import gradient, naive_loss, relative_error
from test_task import BLOCKS, make_batch, make_model, make_settings
from torch import nn

from gradaug_timm import GradAugTask

SETTINGS = make_settings()


def _naive_gradient(model, dtype, scale=1.0):
    images, target = make_batch()
    with torch.autocast('cpu', dtype):
        loss = naive_loss(model, images, target, SETTINGS, 0, num_blocks=BLOCKS)
    (loss * scale).backward()
    return gradient(model) / scale


def test_bf16_gradients_equal_the_naive_sum_in_bf16():
    model = make_model()
    twin = copy.deepcopy(model)
    images, target = make_batch()
    with torch.autocast('cpu', torch.bfloat16):
        result = GradAugTask(model, nn.CrossEntropyLoss(), settings=SETTINGS)(images, target)
    result['loss'].backward()
    assert result['loss_subnet_0'].dtype == torch.float32
    assert relative_error(gradient(model), _naive_gradient(twin, torch.bfloat16)) < 5e-3  # it sums in bf16


@pytest.mark.parametrize('with_scaler', [True, False])
def test_fp16_gradients_equal_the_naive_sum_with_the_same_scale(with_scaler):
    model = make_model()
    twin = copy.deepcopy(model)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0 ** 12) if with_scaler else None
    task = GradAugTask(
        model, nn.CrossEntropyLoss(), settings=SETTINGS, loss_scale=(lambda: scaler._scale) if with_scaler else None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    images, target = make_batch()
    if with_scaler:
        scaler.scale(torch.zeros(()))  # its scale is there from its first use on
    with torch.autocast('cpu', torch.float16):
        loss = task(images, target)['loss']
    if with_scaler:
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
    else:
        loss.backward()
    expected = _naive_gradient(twin, torch.float16, scale=2.0 ** 12)
    assert relative_error(gradient(model), expected) < 2e-2


def test_without_a_scale_small_gradients_would_vanish():
    """The task's scale is what saves them: a loss of tiny weight keeps its gradient in fp16."""
    model = make_model()
    task = GradAugTask(model, lambda x, y: 1e-5 * nn.functional.cross_entropy(x, y), settings=make_settings(weight=0.0))
    with torch.autocast('cpu', torch.float16):
        task(*make_batch())['loss'].backward()
    saved = gradient(model).clone()
    model.zero_grad()
    images, target = make_batch()
    (1e-5 * nn.functional.cross_entropy(model(images), target)).backward()
    assert relative_error(saved, gradient(model)) < 0.2


@pytest.mark.parametrize('scale_is_known', [True, False])
def test_an_overflow_in_an_early_pass_reaches_the_scaler_and_the_step_is_skipped(scale_is_known):
    model = make_model()
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0 ** 10)
    task = GradAugTask(model, _Overflowing(), settings=SETTINGS,
                       loss_scale=(lambda: scaler._scale) if scale_is_known else None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = copy.deepcopy(model.state_dict())
    with torch.autocast('cpu', torch.float16):
        loss = task(*make_batch())['loss']
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0 ** 9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if 'weight' in name)


class _Overflowing(nn.CrossEntropyLoss):
    """A criterion whose gradient is finite in float32 and infinite once scaled in fp16."""

    def forward(self, logits, target):
        return super().forward(logits.float() * 3e3, target) * 1e3


def test_a_scale_of_its_own_is_halved_after_an_overflow_and_grows_after_2000_clean_steps():
    task = GradAugTask(make_model(), _Overflowing(), settings=make_settings(subnets=1))
    with torch.autocast('cpu', torch.float16):
        task(*make_batch())
    assert task.get_task_state()['loss_scale']['scale'] == 2.0 ** 15
    early = task._early_scale
    for _ in range(2000):
        early.unscale([torch.ones(2)], early.current(torch.device('cpu')))
    assert task.get_task_state()['loss_scale']['scale'] == 2.0 ** 16


def test_the_early_passes_take_the_scalers_scale():
    scale = torch.tensor(2.0 ** 5)
    seen = []
    task = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=SETTINGS, loss_scale=lambda: scale)
    weight = task.trainable_module.head.fc.bias
    unscale = task._early_scale.unscale

    def watch(gradients, by):
        seen.append((by.item(), max(float(gradient.abs().max()) for gradient in gradients)))
        unscale(gradients, by)
        seen.append((1.0, max(float(gradient.abs().max()) for gradient in gradients)))

    task._early_scale.unscale = watch
    with torch.autocast('cpu', torch.float16):
        task(*make_batch())
    (by, scaled), (_, plain) = seen
    assert by == 32.0 and scaled == 32 * plain and weight.requires_grad


def test_early_passes_are_differentiated_outside_of_autocast():
    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            modes.append(torch.is_autocast_enabled('cpu'))
            return gradient

    modes = []
    task = GradAugTask(
        make_model(), lambda x, y: nn.functional.cross_entropy(Watched.apply(x), y), settings=SETTINGS)
    with torch.autocast('cpu', torch.bfloat16):
        task(*make_batch())
    assert modes == [False]


def test_a_scale_of_its_own_is_restored_with_the_task():
    first, second = (GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=SETTINGS) for _ in range(2))
    with torch.autocast('cpu', torch.float16):
        first(*make_batch())
    first._early_scale._own.fill_(8.0)
    second.load_task_state(first.get_task_state())
    assert second._early_scale.current(torch.device('cpu')) == 8.0 and second.step == 1


def test_the_scale_before_a_scalers_first_use_is_its_initial_one():
    scaler = torch.amp.GradScaler('cpu')
    task = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=SETTINGS, loss_scale=lambda: scaler._scale)
    assert scaler._scale is None
    with torch.autocast('cpu', torch.float16):
        loss = task(*make_batch())['loss']
    scaler.scale(loss).backward()
    assert all(parameter.grad.isfinite().all() for parameter in task.trainable_module.parameters())
