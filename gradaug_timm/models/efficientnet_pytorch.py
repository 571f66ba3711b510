"""EfficientNets of efficientnet_pytorch, which has TensorFlow's weights: their names in timm, and names of keys."""
import re

import timm
import torch
from timm.models import get_pretrained_cfg

__all__ = []

SIZES = (*(f'lite{number}' for number in range(5)), *(f'b{number}' for number in range(9)), 'l2')
STEM_AND_HEAD = (
    (r'_conv_stem\.(\w+)', r'conv_stem.\1'), (r'_bn0\.(\w+)', r'bn1.\1'), (r'_conv_head\.(\w+)', r'conv_head.\1'),
    (r'_bn1\.(\w+)', r'bn2.\1'), (r'_fc\.(\w+)', r'classifier.\1'),
)
GATE = ('_se_reduce', 'se.conv_reduce'), ('_se_expand', 'se.conv_expand')
EXPANDING = (
    ('_expand_conv', 'conv_pw'), ('_bn0', 'bn1'), ('_depthwise_conv', 'conv_dw'), ('_bn1', 'bn2'), *GATE,
    ('_project_conv', 'conv_pwl'), ('_bn2', 'bn3'),
)
NOT_EXPANDING = ('_depthwise_conv', 'conv_dw'), ('_bn1', 'bn1'), *GATE, ('_project_conv', 'conv_pw'), ('_bn2', 'bn2')


def find_name(shapes: dict[str, torch.Size]) -> str | None:
    """Return timm's name of the network with these keys and shapes; None if there is none of this size."""
    blocks = len({key.split('.')[1] for key in shapes if key.startswith('_blocks.')})
    gated = any('._se_reduce.' in key for key in shapes)
    for size in SIZES:
        name = f'tf_efficientnet_{size}'
        if gated != ('lite' in name):
            ours = _shapes(name)
            if len(_blocks(ours)) == blocks and ours['conv_head.weight'] == shapes['_conv_head.weight']:
                return name
    return None


def rules(name: str) -> tuple[tuple[str, str], ...]:
    """Return the table of a network of timm; efficientnet_pytorch numbers all blocks in one sequence."""
    ours = _shapes(name)
    return (*STEM_AND_HEAD, *(
        (rf'_blocks\.{number}\.{old}\.(\w+)', rf'{block}.{new}.\1')
        for number, block in enumerate(_blocks(ours))
        for old, new in (EXPANDING if f'{block}.conv_pwl.weight' in ours else NOT_EXPANDING)))


def data_of(name: str) -> dict:
    """Return the preprocessing of images that timm uses for a network's ImageNet weights."""
    config = get_pretrained_cfg(name)
    assert config is not None
    return {key: getattr(config, key) for key in ('input_size', 'mean', 'std', 'crop_pct', 'interpolation')}


def _shapes(name: str) -> dict[str, torch.Size]:
    with torch.device('meta'):
        return {key: tensor.shape for key, tensor in timm.create_model(name).state_dict().items()}


def _blocks(shapes: dict[str, torch.Size]) -> list[str]:
    found = (re.match(r'blocks\.\d+\.\d+', key) for key in shapes)
    return list(dict.fromkeys(match.group() for match in found if match))
