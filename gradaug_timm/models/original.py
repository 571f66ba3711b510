"""Networks of the original code (github.com/taoyang1122/GradAug), recognised by checkpoint keys and shapes.

EfficientNets of efficientnet_pytorch are recognised too.

A network is described by the name of our model and by a table that renames the keys. A table is a sequence of pairs of
a regular expression and a replacement; the first expression that matches the full key renames it.
"""
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from . import efficientnet_pytorch
from .cifar import CIFAR_MEAN, CIFAR_STD
from .cifar_pyramidnet import PyramidBottleneck, pyramid_channels

__all__ = []

Rules = tuple[tuple[str, str], ...]
Shapes = Mapping[str, torch.Size]

# Preprocessing of images in the original code's evaluation.
IMAGENET_DATA = {
    'input_size': (3, 224, 224), 'mean': IMAGENET_DEFAULT_MEAN, 'std': IMAGENET_DEFAULT_STD,
    'crop_pct': 0.875, 'interpolation': 'bilinear',
}
CIFAR_DATA = {
    'input_size': (3, 32, 32), 'mean': CIFAR_MEAN, 'std': CIFAR_STD, 'crop_pct': 1.0, 'interpolation': 'bilinear',
}

RESNET_STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
RESNET_BLOCK = (
    (r'body\.0', 'conv1'), (r'body\.1', 'bn1'), (r'body\.3', 'conv2'), (r'body\.4', 'bn2'), (r'body\.6', 'conv3'),
    (r'body\.7', 'bn3'), (r'shortcut\.([01])', r'downsample.\1'),
)
WIDE_RESNET_RULES = (
    (r'conv1\.(\w+)', r'conv1.\1'),
    (r'block([123])\.layer\.(\d+)\.bn([12])\.(\w+)', r'layer\1.\2.norm\3.\4'),
    (r'block([123])\.layer\.(\d+)\.conv([12])\.(\w+)', r'layer\1.\2.conv\3.\4'),
    (r'block([123])\.layer\.(\d+)\.convShortcut\.(\w+)', r'layer\1.\2.downsample.\3'),
    (r'bn1\.(\w+)', r'norm.\1'),
    (r'fc\.(\w+)', r'head.fc.\1'),
)
PYRAMIDNET_RULES = (
    (r'(conv1|bn1)\.(\w+)', r'\1.\2'),
    (r'layer([123])\.(\d+)\.bn([1-4])\.(\w+)', r'layer\1.\2.norm\3.\4'),
    (r'layer([123])\.(\d+)\.conv([123])\.(\w+)', r'layer\1.\2.conv\3.\4'),
    (r'bn_final\.(\w+)', r'norm.\1'),
    (r'fc\.(\w+)', r'head.fc.\1'),
)
CIFAR_RESNET_RULES = (
    (r'(conv1|bn1)\.(\w+)', r'\1.\2'),
    (r'layer([123])\.(\d+)\.(conv|bn)([12])\.(\w+)', r'layer\1.\2.\3\4.\5'),
    (r'layer([123])\.(\d+)\.downsample\.([01])\.(\w+)', r'layer\1.\2.downsample.\3.\4'),
    (r'fc\.(\w+)', r'head.fc.\1'),
)

WIDE_RESNETS = {'wide_resnet28_10': dict(depth=28, widen_factor=10), 'wide_resnet16_8': dict(depth=16, widen_factor=8)}
PYRAMIDNETS = {
    'pyramidnet200_a240': dict(depth=200, alpha=240, bottleneck=True, half_to_even=False),
    'pyramidnet110_a270': dict(depth=110, alpha=270, bottleneck=False, half_to_even=False),
}
CIFAR_RESNETS = {f'resnet{depth}_cifar': dict(depth=depth) for depth in (110, 56, 20)}
MIN_SURVIVAL = 0.8


@dataclass(frozen=True)
class Original:
    """Network of the original code, and how our equivalent model is created and evaluated.

    Args:
        title: Name in papers.
        model: Name of our model.
        model_kwargs: Arguments of our model that differ from the defaults.
        num_classes: Number of classes.
        rules: Table that renames parameters and buffers to our names.
        data: Size and normalisation of images.
        survival: Survival probability of the last block; evaluation scales residual branches linearly down to it.
    """
    title: str
    model: str
    model_kwargs: dict
    num_classes: int
    rules: Rules
    data: dict
    survival: float | None = None

    def shapes(self) -> dict[str, torch.Size]:
        """Return keys and shapes of our model's state dict."""
        with torch.device('meta'):
            model = timm.create_model(self.model, num_classes=self.num_classes, **self.model_kwargs)
        return {key: tensor.shape for key, tensor in model.state_dict().items()}


def recognise(shapes: Shapes) -> Original:
    """Return the network of the original code that has these keys and shapes.

    Raises:
        ValueError: No network has these keys.
    """
    for marks, describe in FAMILIES:
        if all(len(shapes.get(key, ())) == dims for key, dims in marks.items()):
            return describe(shapes)
    raise ValueError('the keys match no network of the original code (ResNet-50/101/152, WideResNet, PyramidNet, '
                     f'CIFAR ResNet) and none of efficientnet_pytorch: {", ".join(shapes)}')


def rename(shapes: Shapes, original: Original) -> dict[str, str]:
    """Return our name for each key.

    Raises:
        ValueError: Keys are unknown, repeated, missing, or have another shape; the message lists all of them.
    """
    ours, names = original.shapes(), {key: _renamed(key, original.rules) for key in shapes}
    sources = defaultdict(list)
    for key, name in names.items():
        if name in ours:
            sources[name].append(key)
    problems = {
        'unknown': [key for key, name in names.items() if name not in ours],
        'more than once': [' = '.join(keys) for keys in sources.values() if len(keys) > 1],
        'missing': [name for name in ours if name not in sources],
        'of another shape': [
            f'{key} {tuple(shapes[key])}, not {tuple(ours[name])}'
            for name, keys in sources.items() for key in keys if shapes[key] != ours[name]],
    }
    if any(problems.values()):
        listed = '; '.join(f'{what}: {", ".join(keys)}' for what, keys in problems.items() if keys)
        raise ValueError(f'it looks like {original.title}, but some keys do not match: {listed}')
    return names  # type: ignore[return-value]


def _renamed(key: str, rules: Rules) -> str | None:
    matches = ((re.fullmatch(pattern, key), replacement) for pattern, replacement in rules)
    return next((match.expand(replacement) for match, replacement in matches if match), None)


def _resnet(shapes: Shapes) -> Original:
    blocks = _count(shapes, r'features\.\d+\.body\.0\.weight')
    depth = next((depth for depth, stages in RESNET_STAGES.items() if sum(stages) == blocks), None)
    if depth is None:
        raise ValueError(f'it looks like a ResNet with {blocks} blocks, but must be ResNet-50, -101 or -152')
    classes = shapes['classifier.0.weight'][0]
    return Original(f'ResNet-{depth}', f'gradaug_resnet{depth}', {}, classes, _resnet_rules(depth), IMAGENET_DATA)


def _resnet_rules(depth: int) -> Rules:
    """Return the table of a ResNet; the original code numbers all blocks in one sequence, starting at 1."""
    stages = enumerate(RESNET_STAGES[depth], 1)
    names = [f'layer{stage}.{index}' for stage, blocks in stages for index in range(blocks)]
    return (
        (r'features\.0\.0\.(\w+)', r'conv1.\1'),
        (r'features\.0\.1\.(\w+)', r'bn1.\1'),
        *((rf'features\.{number}\.{pattern}\.(?P<rest>\w+)', rf'{name}.{replacement}.\g<rest>')
          for number, name in enumerate(names, 1) for pattern, replacement in RESNET_BLOCK),
        (r'classifier\.0\.(\w+)', r'fc.\1'),
    )


def _wide_resnet(shapes: Shapes) -> Original:
    depth = 6 * _count(shapes, r'block1\.layer\.\d+\.conv1\.weight') + 4
    factor = max(1, shapes['block1.layer.0.conv1.weight'][0] // 16)
    model = _variant(WIDE_RESNETS, depth=depth, widen_factor=factor)
    return Original(f'WideResNet-{depth}-{factor}', *model, shapes['fc.weight'][0], WIDE_RESNET_RULES, CIFAR_DATA)


def _pyramidnet(shapes: Shapes) -> Original:
    bottleneck = 'layer1.0.conv3.weight' in shapes
    expansion, step, last = (PyramidBottleneck.expansion, 9, 'conv3') if bottleneck else (1, 6, 'conv2')
    blocks = _count(shapes, r'layer1\.\d+\.conv1\.weight')
    found = [sorted(shape[0] for key, shape in shapes.items()
                    if len(shape) == 4 and re.fullmatch(rf'layer{stage}\.\d+\.{last}\.weight', key))
             for stage in (1, 2, 3)]
    alpha = max(0, shapes['bn_final.weight'][0] // expansion - shapes['conv1.weight'][0])
    exact, even = (pyramid_channels(blocks, alpha, expansion, half_to_even=rounding) for rounding in (False, True))
    model = _variant(
        PYRAMIDNETS, depth=step * blocks + 2, alpha=alpha, bottleneck=bottleneck,
        half_to_even=found != exact and found == even)
    title = f'PyramidNet-{step * blocks + 2} of alpha {alpha}{" with bottlenecks" if bottleneck else ""}'
    return Original(title, *model, shapes['fc.weight'][0], PYRAMIDNET_RULES, CIFAR_DATA)


def _cifar_resnet(shapes: Shapes) -> Original:
    depth = 6 * _count(shapes, r'layer1\.\d+\.conv1\.weight') + 2
    return Original(
        f'ResNet-{depth} for CIFAR', *_variant(CIFAR_RESNETS, depth=depth), shapes['fc.weight'][0], CIFAR_RESNET_RULES,
        CIFAR_DATA, MIN_SURVIVAL)


def _efficientnet(shapes: Shapes) -> Original:
    name = efficientnet_pytorch.find_name(dict(shapes))
    if name is None:
        raise ValueError('it looks like an EfficientNet of efficientnet_pytorch, but of no size that timm has')
    return Original(
        f'EfficientNet-{name.rpartition("_")[2].capitalize()}', name, {}, shapes['_fc.weight'][0],
        efficientnet_pytorch.rules(name), efficientnet_pytorch.data_of(name))


def _count(shapes: Shapes, pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in shapes)


def _variant(variants: Mapping[str, dict], **settings) -> tuple[str, dict]:
    """Return the registered model with these settings, otherwise the first model and the settings that differ."""
    name = next((name for name, own in variants.items() if own == settings), next(iter(variants)))
    return f'gradaug_{name}', {key: value for key, value in settings.items() if variants[name][key] != value}


# Keys that identify a family, with their number of dimensions; the first family whose keys are all present is used.
FAMILIES: tuple[tuple[dict[str, int], Callable[[Shapes], Original]], ...] = (
    ({'features.0.0.weight': 4, 'classifier.0.weight': 2}, _resnet),
    ({'block1.layer.0.conv1.weight': 4, 'fc.weight': 2}, _wide_resnet),
    ({'conv1.weight': 4, 'layer1.0.conv1.weight': 4, 'bn_final.weight': 1, 'fc.weight': 2}, _pyramidnet),
    ({'_conv_stem.weight': 4, '_conv_head.weight': 4, '_fc.weight': 2}, _efficientnet),
    ({'conv1.weight': 4, 'layer1.0.conv1.weight': 4, 'layer3.0.conv1.weight': 4, 'fc.weight': 2}, _cifar_resnet),
)
