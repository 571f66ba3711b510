"""A trained network to export, and the command."""
from pathlib import Path

import pytest
import timm
import torch
from narrow_networks import randomised
from safetensors.torch import load_file

from gradaug_timm.export.main import main

SIZE = 64


def save_weights(path: Path, name: str = 'test_resnet', **kwargs) -> Path:
    """A file of random weights without any description."""
    torch.manual_seed(0)
    torch.save(randomised(timm.create_model(name, num_classes=5, **kwargs)).state_dict(), path)
    return path


def images(count: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(weights: dict | Path, count: int = 2, *, name: str = 'test_resnet', num_classes: int = 2, **kwargs):
    """What timm's network of these weights makes of `images`."""
    network = timm.create_model(name, num_classes=num_classes, **kwargs).eval()
    network.load_state_dict(load_file(weights) if isinstance(weights, Path) else weights)
    return network(images(count))


def refusal(capsys, *argv) -> str:
    """The one line with which the command refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, argv)))
    lines = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
    assert ended.value.code == 2 and len(lines) == 1
    return lines[0]
