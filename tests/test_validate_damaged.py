"""validate.py refuses files that are no weights of the network, without running code that is in them."""
from argparse import Namespace

import pytest
import timm
import torch

from gradaug_timm.evaluation.main import main

MODEL = 'resnet20_cifar'


@pytest.fixture(scope='module')
def network():
    return timm.create_model(MODEL, num_classes=6)


@pytest.fixture
def refusal(image_folder, capsys):
    """Runs validate.py, which must exit with 2; its only line on stderr."""
    def run(checkpoint):
        with pytest.raises(SystemExit) as exit:
            main([str(image_folder), '--model', MODEL, '--checkpoint', str(checkpoint), '--num-classes', '6',
                  '--device', 'cpu', '--workers', '0'])
        assert exit.value.code == 2
        line, = (line for line in capsys.readouterr().err.splitlines() if line.startswith('validate.py: error:'))
        return line
    return run


class Canary:
    """Pickled, it would write a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def damaged_checkpoints(folder, network):
    """Name to (content written to a file, words of the message)."""
    torch.save({'state_dict': network.state_dict()}, folder / 'whole')
    whole = (folder / 'whole').read_bytes()
    return {
        'truncated.pth': whole[:len(whole) // 2],
        'empty.pth': b'',
        'text.pth': b'no checkpoint',
        'text.safetensors': b'no checkpoint',
        'text.npz': b'no checkpoint',
        'other.csv': b'epoch,loss\n1,2\n',
    }


def test_a_damaged_checkpoint_ends_with_one_line(refusal, network, tmp_path):
    for name, content in damaged_checkpoints(tmp_path, network).items():
        (tmp_path / name).write_bytes(content)
        assert f'{name} can\'t be read: it is damaged or no checkpoint' in refusal(checkpoint=tmp_path / name)
    torch.save([network.state_dict()], tmp_path / 'list.pth')
    assert 'list.pth holds no weights but a list' in refusal(checkpoint=tmp_path / 'list.pth')
    assert 'missing.pth does not exist' in refusal(checkpoint=tmp_path / 'missing.pth')


def test_code_in_a_checkpoint_is_not_run(refusal, network, tmp_path):
    canary = tmp_path / 'canary'
    torch.save({'state_dict': network.state_dict(), 'args': Canary(canary)}, tmp_path / 'evil.pth')
    line = refusal(checkpoint=tmp_path / 'evil.pth')
    assert 'evil.pth can\'t be read: it holds ' in line and line.endswith('is not loaded for safety')
    assert not canary.exists()


def test_a_checkpoint_of_another_network_is_named(refusal, network, tmp_path):
    path = tmp_path / 'other.pth.tar'
    torch.save(dict(
        state_dict=timm.create_model('test_resnet', num_classes=7).state_dict(),
        arch='test_resnet', args=Namespace(num_classes=7, in_chans=None, img_size=96)), path)
    line = refusal(checkpoint=path)
    assert f'--model {MODEL}' in line and '--model test_resnet --num-classes 7 --img-size 96' in line
