"""What is exported: a network as validate.py evaluates it, and how it was trained."""
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from ..cli import one_line
from ..evaluation.contents import read_contents
from ..evaluation.trained import Trained
from ..extraction.description import DATA
from ..task.settings import GradAugSettings
from ..training.arguments import given_settings
from ..training.arguments.gradaug import SubnetSettings, before_presets
from ..training.checkpoints.public import without_paths
from ..training.checkpoints.weights import recipe
from .arguments import ExportSettings
from .comparison import fixed_batch

# what is read of safetensors' metadata, which others may have written
KINDS: dict[str, type | tuple[type, ...]] = dict(recipe=dict, gradaug=dict, metric=(int, float), epoch=int)


@dataclass(frozen=True)
class Source:
    """A trained network.

    Args:
        network: The network, on the CPU and in evaluation mode.
        config: How it sees images, by the names in DATA.
        scaling: How its residual branches are scaled in evaluation, by flag; empty where they are not.
        training: What is known of its training; see `_training`.
        class_names: The names of its classes in the order of its outputs; None if they are unknown.
    """

    network: nn.Module
    config: dict[str, Any]
    scaling: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have several labels, each with a probability of its own."""
        return self.training.get('recipe', {}).get('task') == 'multilabel'


def open_source(settings: ExportSettings) -> Source:
    """Open the network of the checkpoint that the settings name.

    Raises:
        ValueError: It does not exist, or can't be opened.
    """
    trained = settings.open(settings.checkpoint)
    config = {name: trained.config[name] for name in DATA}
    _check_runs(trained.network, settings.checkpoint, config['input_size'])
    return Source(trained.network, config, trained.scaling, _training(trained), trained.class_names)


@torch.no_grad()
def _check_runs(network: nn.Module, path: str, input_size: tuple[int, int, int]) -> None:
    try:
        network(fixed_batch(input_size))
    except (AssertionError, RuntimeError) as error:
        size = 'x'.join(map(str, input_size))
        raise ValueError(f'{path}: the network fails on images of {size}: {one_line(error, None)}') from error


def _training(trained: Trained) -> dict[str, Any]:
    """Return what the checkpoint says: 'recipe' and 'gradaug' by name, 'metric', 'epoch', and 'averaged' weights.

    Paths are left out.
    """
    contents = read_contents(trained.path)
    if contents.metadata:
        told = {name: contents.metadata.get(name) for name, kind in KINDS.items()
                if isinstance(contents.metadata.get(name), kind)}
        public = {'recipe': recipe(told.get('recipe') or {}), 'gradaug': without_paths(told.get('gradaug'))}
        return {**told, **public, 'averaged': trained.averaged}
    settings = contents.settings
    if not settings.keys() - {'model'}:
        return {}
    return {
        'recipe': recipe(settings),
        'gradaug': without_paths(_gradaug(settings, side=max(trained.config['input_size'][1:]))),
        'metric': contents.metric,
        'epoch': contents.epoch,
        'averaged': trained.averaged,
    }


def _gradaug(settings: Mapping[str, Any], side: int) -> dict[str, Any] | None:
    if not settings.get('gradaug'):
        return None
    flags = SubnetSettings.of({**settings, **before_presets(settings)})
    given = given_settings(flags)
    transforms = given.pop('transforms', {})  # they may be registered only where the network was trained
    return {**asdict(GradAugSettings.preset(side, flags.gradaug_preset, **given)), 'transforms': transforms}
