"""Training on real CIFAR-100 from the shared data."""
import subprocess
import sys

import pytest
from train_helpers import read_summary

from gradaug_timm.training import main


@pytest.mark.slow
def test_a_few_hundred_steps_on_cifar100_learn_more_than_chance(shared_data, tmp_path):
    source = shared_data / 'cifar100'
    subprocess.run([sys.executable, source / 'cifar_unpack.py', source, tmp_path], check=True)
    main([
        '--dataset', 'torch/cifar100', '--data-dir', str(tmp_path), '--model', 'gradaug_resnet20_cifar',
        '--num-classes', '100', '--img-size', '32', '--train-img-sizes', '32', '--train-batches-per-epoch', '100',
        '--epochs', '3', '--batch-size', '64', '--lr', '0.1', '--warmup-epochs', '0', '--no-aug', '--workers', '0',
        '--val-interval', '3', '--gradaug-divisor', '4', '--output', str(tmp_path), '--experiment', 'run',
    ])
    last = read_summary(tmp_path / 'run')[-1]
    assert float(last['eval_top1']) > 5  # chance: 1
    assert float(last['train_loss_full']) < 4.3  # chance: 4.6
