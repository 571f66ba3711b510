"""Training on real CIFAR-100 from the shared data."""
import math
import subprocess
import sys

import pytest
from train_helpers import read_summary

from gradaug_timm.training.main import main


@pytest.mark.slow
def test_a_few_hundred_steps_on_cifar100_learn_more_than_chance(shared_data, tmp_path):
    subprocess.run([sys.executable, 'cifar_unpack.py', '.', tmp_path], cwd=shared_data, check=True)
    main([
        '--dataset', 'torch/cifar100', '--data-dir', str(tmp_path), '--model', 'gradaug_resnet20_cifar',
        '--num-classes', '100', '--img-size', '32', '--train-img-sizes', '32', '--train-batches-per-epoch', '150',
        '--epochs', '2', '--batch-size', '32', '--validation-batch-size', '250', '--lr', '0.1', '--warmup-epochs', '0',
        '--no-aug', '--workers', '0', '--val-interval', '2', '--gradaug-divisor', '4',
        '--output', str(tmp_path), '--experiment', 'run',
    ])
    last = read_summary(tmp_path / 'run')[-1]
    assert float(last['eval_top1']) > 3  # chance: 1
    assert float(last['eval_loss']) < math.log(100)  # that of a uniform guess
    assert float(last['train_loss_full']) < math.log(100)
