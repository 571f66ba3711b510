"""The model card: what a network is, how it was trained, and how to load it."""
from collections.abc import Iterator

import timm
import torch
from torch import nn

from .plain import home
from .source import Source

CITATION = """```bibtex
@inproceedings{yang2020gradaug,
  title = {{GradAug}: A New Regularization Method for Deep Neural Networks},
  author = {Yang, Taojiannan and Zhu, Sijie and Chen, Chen},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020}
}
```"""
SEVERAL = ('an image may have several: apply a sigmoid to each output, not a softmax over all outputs '
           '(transformers\' pipeline does so)')
PERCENT = ('top1', 'top5')  # metrics


def model_card(source: Source, plain: nn.Module, *, address: str, license: str | None) -> str:
    """Write the text of README.md, with the Hub's header.

    Args:
        source: The trained network.
        plain: The network of timm with its weights.
        address: Where timm finds it, 'hf-hub:REPO' or 'local-dir:FOLDER'.
        license: Licence of the weights; None states none.
    """
    architecture, name = plain.pretrained_cfg['architecture'], address.partition(':')[2]
    return '\n'.join([
        *_header(license),
        f'# {name}', '',
        f'{architecture}, {"trained with GradAug" if source.training.get("gradaug") else "an image classifier"}. '
        'Exported by gradaug_timm.', '',
        '## Network', '', *_items(_network(source, plain)),
        '## Training', '', *_items(_training(source.training)),
        '## Loading', '', *_loading(address, architecture),
        '## Citation', '', CITATION, '',
        '## Licence', '', f'{license}' if license else 'Not stated.', '',
    ])


def _header(license: str | None) -> list[str]:
    return [
        '---', 'tags:', '- image-classification', '- timm', '- transformers', '- gradaug',
        'pipeline_tag: image-classification', 'library_name: timm', *([f'license: {license}'] if license else []),
        '---', '',
    ]


def _items(facts: dict[str, object]) -> list[str]:
    return [*(f'- {name}: {_written(value)}' for name, value in facts.items()), '']


def _network(source: Source, plain: nn.Module) -> dict:
    config = source.config
    several = {'labels': SEVERAL} if source.is_multi_label else {}
    return {
        'architecture': plain.pretrained_cfg['architecture'],
        'parameters': f'{sum(parameter.numel() for parameter in plain.parameters()):,}',
        'classes': plain.num_classes,
        **several,
        'images': f'{"x".join(map(str, config["input_size"]))}, interpolation {config["interpolation"]}, '
                  f'crop {config["crop_pct"]:g} ({config["crop_mode"]})',
        'mean, standard deviation': f'{_written(config["mean"])}; {_written(config["std"])}',
        'exported with': f'timm {timm.__version__}, torch {torch.__version__}',
    }


def _training(told: dict) -> dict:
    """Return what the checkpoint says of its training, without paths, since names of data folders may be private."""
    if not told:
        return {'settings': 'unknown; the checkpoint does not contain them'}
    recipe = dict(told.get('recipe') or {})
    metric = recipe.pop('eval_metric', 'metric')
    recipe.pop('task', None)  # told of the network
    facts = {'data': recipe.pop('dataset', '') or 'a folder of images'}
    if recipe.pop('pretrained', False):
        facts['started from'] = 'pretrained weights, whose licence also applies'
    facts['recipe'] = ', '.join(f'{name} {_written(value)}' for name, value in recipe.items())
    settings = told.get('gradaug')
    facts['GradAug'] = ', '.join(
        f'{name} {_written(value)}' for name, value in settings.items()) if settings else 'off'
    if told.get('metric') is not None:
        epoch = '' if told.get('epoch') is None else f' after epoch {told["epoch"]}'
        facts[f'validation {metric}{epoch}'] = f'{told["metric"]:.4g}{" %" if metric in PERCENT else ""}'
    facts['weights'] = 'moving average' if told.get('averaged') else 'as trained'
    return facts


def _loading(address: str, architecture: str) -> Iterator[str]:
    name, package = address.partition(':')[2], home(architecture)
    if package != 'timm':
        yield f'timm has no {architecture}: install and import the package {package}, which defines it.'
        yield ''
    needed = '' if package == 'timm' else f'import {package}\n'
    yield (f'```python\nimport timm\n{needed}\n'
           f'model = timm.create_model(\'{address}\', pretrained=True).eval()\n```\n')
    yield (f'```python\nfrom transformers import AutoImageProcessor, TimmWrapperForImageClassification\n{needed}\n'
           f'processor = AutoImageProcessor.from_pretrained(\'{name}\')\n'
           f'model = TimmWrapperForImageClassification.from_pretrained(\'{name}\')\n```\n')


def _written(value) -> str:
    if isinstance(value, (tuple, list)):
        return '/'.join(map(_written, value)) or 'none'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
