"""No code from files or flags is run, outputs stay in their folder, and secrets are never written."""
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from train_helpers import arguments, error_line, make_image_folder, train

from gradaug_timm.training.arguments import build_parser, parse_arguments


class Canary:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def data(tmp_path):
    return make_image_folder(tmp_path / 'data')


WRITERS = {
    'checkpoint.pth.tar': lambda path, content: torch.save({'state_dict': content, 'epoch': 1}, path),
    'legacy.pth': lambda path, content: torch.save(content, path, _use_new_zipfile_serialization=False),
    'plain.pkl': lambda path, content: path.write_bytes(pickle.dumps(content)),
    'weights.npz': lambda path, content: np.savez(path, np.array([content], dtype=object)),
    'weights.safetensors': lambda path, content: path.write_bytes(pickle.dumps(content)),
}


@pytest.mark.parametrize('name', WRITERS)
@pytest.mark.parametrize('flags', [
    dict(resume='{}'), dict(initial_checkpoint='{}'), dict(pretrained=True, pretrained_path='{}'),
    dict(kd_model_name='test_resnet', kd_checkpoint='{}'),
], ids=str)
def test_code_in_weights_is_never_run(data, tmp_path, capsys, name, flags):
    canary, file = tmp_path / 'canary', tmp_path / name
    WRITERS[name](file, Canary(canary))
    flags = {flag: str(file) if value == '{}' else value for flag, value in flags.items()}
    line = error_line(capsys, arguments(data, tmp_path / 'output', model='resnet20_cifar', **flags))
    assert not canary.exists()
    assert len(line) < 600
    assert not list((tmp_path / 'output').rglob('*.tar'))


def test_the_canary_sings_where_code_is_run(tmp_path):
    with pytest.raises(pickle.UnpicklingError):
        torch.load(_saved(tmp_path), weights_only=True)
    assert not (tmp_path / 'canary').exists()
    torch.load(_saved(tmp_path), weights_only=False)
    assert (tmp_path / 'canary').exists()


def _saved(folder: Path) -> Path:
    torch.save({'state_dict': Canary(folder / 'canary')}, folder / 'checkpoint.pth')
    return folder / 'checkpoint.pth'


@pytest.mark.parametrize('text', [
    'model: !!python/object/apply:os.system ["touch {}"]',
    'model: !!python/object/new:pathlib.Path.touch ["{}"]',
    'model_kwargs: {{depth: "__import__(\'pathlib\').Path(\'{}\').touch()"}}',
])
def test_code_in_yaml_is_never_run(data, tmp_path, capsys, text):
    canary, file = tmp_path / 'canary', tmp_path / 'config.yaml'
    file.write_text(text.format(canary))
    error_line(capsys, arguments(data, tmp_path / 'output', model=None, model_kwargs=None, config=file))
    assert not canary.exists()


def test_code_in_model_arguments_is_never_run(data, tmp_path, capsys):
    canary = tmp_path / 'canary'
    error_line(capsys, arguments(
        data, tmp_path / 'output', model_kwargs=f'depth=__import__("pathlib").Path("{canary}").touch()'))
    assert not canary.exists()


@pytest.mark.parametrize('name', ['../x', '/tmp/x', 'a/../../x', '..', '.'])
def test_outputs_stay_in_their_folder(data, tmp_path, capsys, name):
    before = set(tmp_path.rglob('*'))
    assert '--experiment' in error_line(capsys, arguments(data, tmp_path / 'output', experiment=name))
    assert set(tmp_path.rglob('*')) - before <= {tmp_path / 'output'}


def test_secrets_of_the_environment_are_neither_written_nor_logged(data, tmp_path, caplog, capsys, monkeypatch):
    secret = 'hf_0123456789abcdef'
    for name in ('HF_TOKEN', 'WANDB_API_KEY', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.setenv(name, secret)
    with caplog.at_level('DEBUG'):
        folder = train(data, tmp_path)
    printed = capsys.readouterr()
    assert secret not in caplog.text + printed.out + printed.err
    files = [path for path in folder.rglob('*') if path.is_file()]
    assert files and not any(secret.encode() in path.read_bytes() for path in files)


def test_remote_code_is_off_by_default():
    args, _ = parse_arguments(build_parser(), ['--data-dir', 'x', '--model', 'resnet18'])
    assert args.dataset_trust_remote_code is False
