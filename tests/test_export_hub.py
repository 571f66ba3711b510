"""`python -m gradaug_timm.export --push`, with a mock of the Hub."""
from pathlib import Path

import pytest
import timm
import torch
from export_helpers import images, logits, refusal, save_weights

from gradaug_timm.export import hub
from gradaug_timm.export.main import main

TOKEN = 'hf_not_to_be_seen_anywhere'
FLAGS = ['-m', 'test_resnet', '--num-classes', '5', '--push', 'me/net']


class Hub:
    """What HfApi does, in memory."""

    def __init__(self):
        self.repos, self.settings = {}, {}

    def file_exists(self, repo, name):
        return name in self.repos.get(repo, {})

    def create_repo(self, repo, **settings):
        self.repos.setdefault(repo, {})
        self.settings[repo] = settings
        return Url(repo)

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        self.repos[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()
                               if path.name in allow_patterns}


class Url(str):
    @property
    def repo_id(self):
        return str(self)


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setenv('HF_TOKEN', TOKEN)
    there = Hub()
    monkeypatch.setattr(hub, 'HfApi', lambda: there)
    return there


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp('weights') / 'weights.pth')


def test_what_is_pushed_loads_and_holds_no_token(made_up, weights, tmp_path, capsys, caplog):
    main([str(weights), *FLAGS, '--private'])
    files = made_up.repos['me/net']
    assert files.keys() == {'model.safetensors', 'config.json', 'README.md'}
    assert made_up.settings['me/net'] == dict(private=True, exist_ok=True)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert TOKEN.encode() not in content
    assert TOKEN not in caplog.text + ''.join(capsys.readouterr())
    assert 'timm.create_model(\'hf-hub:me/net\', pretrained=True)' in (tmp_path / 'README.md').read_text()
    network = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(network(images()), logits(torch.load(weights), num_classes=5))


def test_a_repository_that_has_a_network_is_left_alone_without_the_flag(made_up, weights, capsys):
    made_up.repos['me/net'] = {'README.md': b'mine'}
    assert '--push me/net already has README.md; use --overwrite to replace' in refusal(capsys, weights, *FLAGS)
    assert made_up.repos['me/net'] == {'README.md': b'mine'}
    main([str(weights), *FLAGS, '--overwrite'])
    assert len(made_up.repos['me/net']) == 3


def test_what_the_hub_refuses_is_told_in_one_line_after_the_folder_is_there(made_up, weights, capsys, tmp_path):
    def refuse(*args, **kwargs):
        raise SimpleError('403\nForbidden')
    made_up.create_repo = refuse
    error = refusal(capsys, weights, *FLAGS, '--to', tmp_path / 'net')
    assert error.endswith('--push me/net: SimpleError: 403 Forbidden') and TOKEN not in error
    assert (tmp_path / 'net' / 'model.safetensors').is_file()


class SimpleError(Exception):
    pass


def test_a_wrong_name_is_refused_before_anything_is_read(capsys, tmp_path):
    assert '--push a//b' in refusal(capsys, tmp_path / 'none.pth', '--push', 'a//b')
