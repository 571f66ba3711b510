"""Training on a GPU: no waiting for the device, memory of a single pass, same results if compiled or resumed."""
import copy

import pytest
import timm
import torch
from test_detection_networks import batch as detection_batch
from test_detection_networks import detector
from test_resuming import RECIPE, data, differences  # noqa: F401
from timm.task import ClassificationTask
from torch import nn
from train_helpers import train

from gradaug_timm import GradAugSettings, GradAugTask
from gradaug_timm.detection.task import GradAugDetectionTask
from gradaug_timm.files import read_checkpoint

pytestmark = pytest.mark.gpu


def model(name='gradaug_resnet18', **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=10, **kwargs).cuda().train()


def batch(count=16, size=64):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, size, size, generator=generator)
    return images.cuda(), (torch.arange(count) % 10).cuda()


@pytest.mark.parametrize('dtype', [None, torch.bfloat16, torch.float16])
def test_a_step_never_waits_for_the_device(dtype):
    scaler = torch.amp.GradScaler('cuda', enabled=dtype == torch.float16)
    network = model()
    task = GradAugTask(
        network, nn.CrossEntropyLoss(), settings=GradAugSettings(),
        loss_scale=(lambda: scaler._scale) if scaler.is_enabled() else None)
    images, target = batch()

    def step(number):
        task.step = number
        with torch.autocast('cuda', dtype, enabled=dtype is not None):
            loss = task(images, target)['loss']
        scaler.scale(loss).backward()
    for number in range(6):
        step(number)
    torch.cuda.set_sync_debug_mode('error')
    try:
        for number in range(6):
            step(number)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_the_memory_of_a_step_is_that_of_a_plain_one():
    images, target = batch(64, 128)
    peaks = []
    for build in (ClassificationTask, GradAugTask):
        task = build(model('gradaug_resnet50'), nn.CrossEntropyLoss())
        for _ in range(2):
            task(images, target)['loss'].backward()
        torch.cuda.reset_peak_memory_stats()
        task(images, target)['loss'].backward()
        peaks.append(torch.cuda.max_memory_allocated())
        del task
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize('mode', ['default', 'reduce-overhead'])
def test_compiled_steps_have_the_gradients_of_those_that_are_not(mode):
    settings = GradAugSettings(subnets=2, width_steps=1, sizes=(1.0, 0.5))
    images, target = batch()
    networks = [model('gradaug_test_resnet')]
    networks.append(copy.deepcopy(networks[0]))
    tasks = [GradAugTask(network, nn.CrossEntropyLoss(), settings=settings) for network in networks]
    tasks[1].compile(mode=None if mode == 'default' else mode)
    for number in range(4):
        losses = []
        for task in tasks:
            task.step = number
            torch.compiler.cudagraph_mark_step_begin()
            for parameter in task.parameters():
                parameter.grad = None
            result = task(images, target)
            result['loss'].backward()
            losses.append(result['loss'].detach().clone())
        torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)
    for one, other in zip(*(network.parameters() for network in networks)):
        torch.testing.assert_close(one.grad, other.grad, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize('precision', [{}, dict(amp=True), dict(amp=True, amp_dtype='bfloat16')])
def test_a_run_that_is_stopped_and_resumed_is_the_undisturbed_run(data, tmp_path, precision, monkeypatch):  # noqa: F811
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', True)
    recipe = {**RECIPE, **precision, 'device': 'cuda', 'channels_last': True}
    whole = train(data, tmp_path / 'whole', **recipe)
    train(data, tmp_path / 'parts', stop_epoch=1, **recipe)
    parts = train(data, tmp_path / 'parts', resume='auto', **recipe)
    one, other = (read_checkpoint(folder / 'last.pth.tar') for folder in (whole, parts))
    for part in ('state_dict', 'state_dict_ema', 'optimizer'):
        assert differences(one[part], other[part]) == []


@pytest.mark.parametrize('targets', ['truth', 'predictions'])
def test_detectors_train_in_mixed_precision(targets):
    network = detector().cuda()
    task = GradAugDetectionTask(
        network, settings=GradAugSettings(subnets=1, sizes=(0.75,)), targets=targets, device=torch.device('cuda'))
    images, truths = detection_batch()
    images = [image.cuda() for image in images]
    truths = [{name: value.cuda() for name, value in truth.items()} for truth in truths]
    with torch.autocast('cuda', torch.float16):
        result = task.train()(images, truths)
    result['loss'].backward()
    assert torch.isfinite(result['loss'])
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
