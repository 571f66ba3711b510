"""The folder from which timm and transformers load a network."""
import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from ..files import replacing, written_aside
from .comparison import compare, fixed_batch

FILES = ('model.safetensors', 'config.json', 'README.md')


def written_files(folder: str | None) -> list[str]:
    """Return the paths of the files that are written to a folder; none without a folder."""
    return [os.path.join(folder, name) for name in FILES] if folder else []


def write_draft(
        folder: str,
        plain: nn.Module,
        *,
        expected: nn.Module,
        config: dict,
        card: str,
        label_names: Sequence[str] | None,
        multi_label: bool = False,
) -> float:
    """Write the files and load them by timm.

    Args:
        folder: An empty folder.
        plain: The network of timm.
        expected: The network whose outputs are compared.
        config: How it sees images.
        card: Text of the model card.
        label_names: Names of the classes.
        multi_label: Whether an image may have several labels; transformers then applies a sigmoid, not a softmax.

    Returns:
        The largest difference of outputs, relative to the largest output.

    Raises:
        ValueError: The network can't be described, or the outputs of the loaded network differ.
    """
    described: dict[str, Any] = {'label_names': list(label_names)} if label_names else {}
    if multi_label:
        described['problem_type'] = 'multi_label_classification'
    save_for_hf(plain, folder, safe_serialization=True, data_config=config, model_config=described or None)
    _name_classes_once(os.path.join(folder, 'config.json'))
    with replacing(os.path.join(folder, 'README.md')) as file:
        file.write(card)
    loaded = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    images = fixed_batch(config['input_size'])
    with torch.no_grad():
        return compare(loaded(images), expected(images))


def place(draft: str, folder: str) -> None:
    """Move the written files to a folder, which is created if needed."""
    os.makedirs(folder, exist_ok=True)
    for source, path in zip(written_files(draft), written_files(folder)):
        with written_aside(path) as partial:
            shutil.copyfile(source, partial)


def _name_classes_once(path: str) -> None:
    """Leave num_classes out of timm's model_args: transformers' wrapper passes on both, and fails."""
    with open(path, encoding='utf-8') as file:
        config = json.load(file)
    config['model_args'].pop('num_classes', None)
    with replacing(path) as file:
        json.dump(config, file, indent=2)
