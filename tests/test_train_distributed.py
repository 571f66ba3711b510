"""train.py under torchrun: two processes over gloo on the CPU."""
import os
import subprocess
import sys

import pytest
import torch
from timm.utils import load_checkpoint_metadata
from train_helpers import arguments, read_log, read_summary


def torchrun(project_root, argv: list[str]) -> str:
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'GLOO_SOCKET_IFNAME': 'lo'}
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2']
    command = [sys.executable, *launch, 'train.py', *argv]
    ended = subprocess.run(command, cwd=project_root, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout + ended.stderr


@pytest.fixture(scope='module')
def distributed_run(project_root, image_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp('distributed')
    log = torchrun(project_root, arguments(
        image_folder, output, gradaug=True, epochs=2, batch_size=3, grad_accum_steps=2, model_ema=True,
        model_ema_decay=0.5, clip_grad=1., lr=0.05, experiment='run', log_interval=1))
    return output / 'run', log


def test_two_processes_train_one_network_and_write_once(distributed_run):
    folder, log = distributed_run
    rows = read_summary(folder)
    assert [row['epoch'] for row in rows] == ['0', '1']
    steps = [entry['step'] for entry in read_log(folder) if 'epoch' not in entry]
    assert steps == [1, 2, 3, 4]
    assert log.count('--result') == 1 and log.count('GradAug is on') == 1
    assert 'Process 1 of 2' in log


def test_the_mean_loss_is_over_both_processes_and_finite(distributed_run):
    row = {name: float(value) for name, value in read_summary(distributed_run[0])[0].items()}
    parts = sum(row[name] for name in row if name.startswith('train_loss_'))
    assert row['train_loss'] == pytest.approx(parts, rel=1e-5)


def test_the_checkpoint_loads_without_the_wrappers_names(distributed_run):
    checkpoint = load_checkpoint_metadata(distributed_run[0] / 'last.pth.tar')
    assert not any(name.startswith('module.') for name in checkpoint['state_dict'])
    assert all(torch.isfinite(value).all() for value in checkpoint['state_dict'].values())
    assert checkpoint['task_state']['step'] == 2 * 4


def test_two_processes_train_on_images_that_lie_on_the_device(project_root, image_folder, tmp_path):
    torchrun(project_root, arguments(
        image_folder, tmp_path, device_augment=True, no_aug=None, zero_pad=2, color_jitter=0, cutmix=1., gradaug=True,
        batch_size=4, experiment='run'))
    row = read_summary(tmp_path / 'run')[0]
    assert float(row['train_loss']) > 0
    assert float(row['eval_top1']) * 10 % 100 == pytest.approx(0, abs=1e-3)  # of 10 images, each counted once
    checkpoint = load_checkpoint_metadata(tmp_path / 'run' / 'last.pth.tar')
    assert checkpoint['task_state']['step'] == 24 / (2 * 4)
