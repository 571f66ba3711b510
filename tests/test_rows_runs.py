"""A dry run of every row builds what the papers describe: network, loaders, task, optimizer and schedule."""
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import timm
import torch
from rows_expected import HPARAMS, ROWS
from timm.data import FastCollateMixup
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.loss import SoftTargetCrossEntropy
from timm.task import ClassificationTask, LogitDistillationTask
from torch import nn
from torchvision import transforms

from gradaug_timm import GradAugTask
from gradaug_timm.data import PadCrop, PCALighting
from gradaug_timm.regularizers import DropBlock, ResidualScale, ShakeDrop
from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.prepare import Run, prepare
from gradaug_timm.training.processes import start_process

UPDATES = 12  # an epoch: 24 images in batches of 2
MILLIONS = dict(resnet50=25.6, wide_resnet28_10=36.5, pyramidnet200_a240=26.8, resnet110=1.7)
SLOW = ('imagenet/resnet50_gradaug', 'cifar100/pyramidnet200_a240_gradaug', 'cifar100/wide_resnet28_10_gradaug',
        'cifar10/resnet110_gradaug')
BLOCKS = dict(resnet50=16, wide_resnet28_10=12, pyramidnet200_a240=66, resnet110=54)


def cosine(peak: float, epochs: int):
    return lambda epoch: peak / 2 * (1 + math.cos(math.pi * epoch / epochs))


def steps(peak: float, *milestones: int):
    return lambda epoch: peak * 0.1 ** sum(epoch >= milestone for milestone in milestones)


def warmed_up(start: float, peak: float, then):
    return lambda epoch: start + (peak - start) * epoch / 5 if epoch < 5 else then(epoch)


LEARNING_RATES = {
    'imagenet/resnet50_dropblock': warmed_up(0., 0.4, steps(0.4, 125, 200, 250)),
    'imagenet/resnet50_mixup': warmed_up(0.1, 0.4, steps(0.4, 60, 120, 180)),
    'imagenet/resnet50_cutmix': steps(0.1, 75, 150, 225),
    'imagenet/resnet50_stochdepth': steps(0.1, 75, 150, 225),
    'imagenet/resnet50_bag_of_tricks': warmed_up(0., 0.4, cosine(0.4, 200)),
    'cifar10/resnet110_stochdepth': steps(0.1, 250, 375),
    'cifar100/resnet110_stochdepth': steps(0.1, 250, 375),
    'imagenet': cosine(0.2, 120),
    'cifar100/wide': cosine(0.1, 200),
    'cifar100/pyramid': steps(0.25, 150, 225),
    'cifar100/resnet110': cosine(0.1, 200),
    'cifar10/resnet110': cosine(0.1, 200),
}  # the first that a row begins with


def published_learning_rate(row: str):
    return next(rate for prefix, rate in LEARNING_RATES.items() if row.startswith(prefix))


def rows() -> list:
    return [pytest.param(row, marks=pytest.mark.slow) if row.startswith(SLOW) else row for row in ROWS]


@pytest.fixture(scope='module')
def teacher(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(timm.create_model('resnet20_cifar', num_classes=1000).state_dict(), path)
    return str(path)


@pytest.fixture(scope='module')
def dry_run(image_folder, tmp_path_factory, teacher):
    def build(row: str) -> Run:
        argv = ['--dataset', '', '--data-dir', str(image_folder), '--batch-size', '2']
        if 'kd_model_name' in ROWS[row]:
            argv += ['--kd-model-name', 'resnet20_cifar', '--kd-checkpoint', teacher]
        return prepare_row(row, tmp_path_factory.mktemp('run'), *argv)
    return build


def prepare_row(row: str, output: Path, *argv: str) -> Run:
    argv = ['-c', str(HPARAMS / f'{row}.yaml'), '--workers', '0', '--device', 'cpu', '--output', str(output), *argv]
    args, text = parse_arguments(build_parser(), argv)
    return prepare(args, text, start_process('cpu'))


@pytest.mark.parametrize('row', rows())
def test_a_dry_run_builds_what_the_paper_describes(row, dry_run):
    run, settings = dry_run(row), ROWS[row]
    assert (run.start.epoch, run.end_epoch) == (0, settings['epochs'])
    check_network(run.task.trainable_module, row, settings)
    check_task(run.task, settings)
    check_optimizer(run, settings)
    check_learning_rates(run, row, settings)
    check_images(run.loaders, settings)
    check_mixing(run.loaders.train, settings)


def check_network(network: nn.Module, row: str, settings: dict):
    millions = next(count for name, count in MILLIONS.items() if name in row)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    classes = 90 * 64 / 1e6 if settings['num_classes'] == 10 else 0  # fewer than of the published 100
    assert round(parameters / 1e6 + classes, 1) == millions
    assert network.num_classes == settings['num_classes']
    if 'resnet50' in row:
        zero = bool((network.layer4[2].bn3.weight == 0).all())
        assert zero == settings['model_kwargs']['zero_init_last']
    check_regularizers(list(network.modules()), row, settings)


def check_regularizers(modules: list[nn.Module], row: str, settings: dict):
    blocks = next(count for name, count in BLOCKS.items() if name in row)
    last = settings.get('shake_drop') or settings.get('stoch_depth')
    decay = [1 - (1 - last) * block / blocks for block in range(1, blocks + 1)] if last else []
    shaken = [module for module in modules if isinstance(module, ShakeDrop)]
    scaled = [module.factor for module in modules if isinstance(module, ResidualScale)]
    assert [module.survival for module in shaken] == pytest.approx(decay if 'shake_drop' in settings else [])
    assert {(module.alpha, module.beta, module.level) for module in shaken} <= {((-1., 1.), (0., 1.), 'pixel')}
    assert scaled == pytest.approx(decay if 'stoch_depth' in settings else [])
    dropped = Counter((module.rate, module.size) for module in modules if isinstance(module, DropBlock))
    # three convolutions and a shortcut in each of 6 blocks, then of 3
    assert dropped == ({(0.1 / 4, 7): 24, (0.1, 7): 12} if 'paper_drop_block' in settings else {})


def check_task(task: nn.Module, settings: dict):
    kind = GradAugTask if settings['gradaug'] else ClassificationTask
    assert type(task) is (LogitDistillationTask if 'kd_model_name' in settings else kind)
    mixes = 'mixup' in settings or 'cutmix' in settings
    assert type(task.criterion) is (SoftTargetCrossEntropy if mixes else nn.CrossEntropyLoss)
    if 'kd_model_name' in settings:
        assert (task.temperature, task.task_loss_weight, task.distill_loss_weight) == (20., 1., 1.)


def check_optimizer(run, settings: dict):
    optimizer, network = run.optimizer, run.task.trainable_module
    assert type(optimizer) is torch.optim.SGD
    assert all(group['nesterov'] and group['momentum'] == 0.9 for group in optimizer.param_groups)
    decays = {id(weight): group['weight_decay'] for group in optimizer.param_groups for weight in group['params']}
    for weight in network.parameters():
        spared = weight.ndim < 2 and not settings['decay_all_parameters']
        assert decays.pop(id(weight)) == (0. if spared else settings['weight_decay'])
    assert not decays


def check_learning_rates(run, row: str, settings: dict):
    published, last = published_learning_rate(row), settings['epochs'] - 1
    middle = 2.5 if settings['sched_on_updates'] else 2  # by epochs it is constant within one
    for epoch in (0, 1, middle, 5, 59, 60, 74, 75, 124, 125, 149, 150, 199, 200, 224, 225, 249, 250, 375, last):
        if epoch <= last:
            assert learning_rate(run, epoch) == pytest.approx(published(epoch), rel=1e-6, abs=1e-9), epoch


def learning_rate(run, epoch: float) -> float:
    """That of the update after `epoch` epochs."""
    if run.args.sched_on_updates:
        run.scheduler.step_update(round(epoch * UPDATES))
    else:
        run.scheduler.step(epoch)
    return run.optimizer.param_groups[0]['lr']


def source(loaders):
    """The training images, below what reads them by keys."""
    return loaders.train.dataset.dataset.dataset


def check_images(loaders, settings: dict):
    assert len(loaders.train) == UPDATES
    size = settings['input_size'][1]
    crop, flip, jitter, *rest = source(loaders).transform.transforms
    if 'reflect_pad' in settings:
        pad = crop.transforms[1]
        assert type(crop) is PadCrop and (pad.padding, pad.padding_mode, pad.size) == (4, 'reflect', (32, 32))
    else:
        assert type(crop) is RandomResizedCropAndInterpolation
        assert (crop.size, crop.scale, crop.ratio) == ((224, 224), (0.08, 1.), (3 / 4, 4 / 3))
        assert crop.interpolation == transforms.InterpolationMode.BILINEAR
    assert type(flip) is transforms.RandomHorizontalFlip and flip.p == 0.5
    change = settings['color_jitter']
    span = (1 - change, 1 + change) if change else None
    assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) == (span, span, span, None)
    assert not any(isinstance(step, PCALighting) for step in rest) and len(rest) == 1
    resize, centre = loaders.validation.dataset.dataset.transform.transforms[:2]
    assert (resize.size, centre.size) == ({224: 256, 32: 32}[size], (size, size))
    assert resize.interpolation == transforms.InterpolationMode.BILINEAR
    for loader in (loaders.train, loaders.validation):
        assert (loader.mean.flatten() / 255).tolist() == pytest.approx(settings['mean'])
        assert (loader.std.flatten() / 255).tolist() == pytest.approx(settings['std'])


def check_mixing(loader, settings: dict):
    mixer = loader.loader.collate_fn
    if not ('mixup' in settings or 'cutmix' in settings):
        assert not isinstance(mixer, FastCollateMixup)
        return
    found = (mixer.mixup_alpha, mixer.cutmix_alpha, mixer.mix_prob, mixer.label_smoothing)
    assert found == (
        settings.get('mixup', 0.), settings.get('cutmix', 0.), settings.get('mixup_prob', 1.), settings['smoothing'])


@pytest.mark.slow
def test_rows_of_cifar100_read_the_official_files(shared_data, tmp_path):
    subprocess.run([sys.executable, 'cifar_unpack.py', '.', tmp_path], cwd=shared_data, check=True)
    loaders = prepare_row('cifar100/resnet110_baseline', tmp_path / 'run', '--data-dir', str(tmp_path)).loaders
    assert (len(loaders.train.dataset), len(loaders.validation.dataset)) == (50_000, 10_000)
    assert len(loaders.train) == 391  # the last of 80 images
    assert source(loaders).targets != loaders.validation.dataset.dataset.targets
    assert next(iter(loaders.validation))[0].shape == (128, 3, 32, 32)


@pytest.mark.slow
def test_the_published_teacher_of_the_bag_of_tricks_loads_from_a_file(image_folder, tmp_path):
    name = ROWS['imagenet/resnet50_bag_of_tricks']['kd_model_name']
    weights = timm.create_model(name).state_dict()
    torch.save(weights, tmp_path / 'teacher.pth')
    task = prepare_row(
        'imagenet/resnet50_bag_of_tricks', tmp_path / 'run', '--data-dir', str(image_folder), '--batch-size', '2',
        '--kd-checkpoint', str(tmp_path / 'teacher.pth')).task
    assert all(torch.equal(value, weights[key]) for key, value in task.teacher.model.state_dict().items())
    losses = task(torch.randn(2, 3, 224, 224), torch.full((2, 1000), 1 / 1000))
    torch.testing.assert_close(losses['loss'], losses['task_loss'] + losses['kd_loss'])
