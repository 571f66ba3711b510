"""Feature sizes that timm's networks report, corrected for a network that keeps a part of the channels."""
from typing import NamedTuple

import torch
from torch import nn

from .modes import evaluation
from .planning.replica import probe_shape

# Attributes of networks and their heads from which timm makes a new classifier.
COUNTS = ('num_features', 'head_hidden_size', 'embed_dim', 'in_features', 'hidden_size')
LAST, PRE_LOGITS = 'last feature', 'pre-logits'

Shapes = dict[str, tuple[int, ...]]


class Features(NamedTuple):
    """Features of a network with all channels: the shapes, and the attributes that report the sizes."""
    shapes: Shapes
    counts: list[tuple[nn.Module, str, object]]

    def corrected(self) -> set[tuple[nn.Module, str]]:
        """Return the attributes, by module and name, that are the size of a last feature."""
        sizes = {*self.shapes[LAST], *self.shapes[PRE_LOGITS]}
        return {(module, name) for module, name, value in self.counts if isinstance(value, int) and value in sizes}


def find_features(network: nn.Module) -> Features | None:
    """Return the features of a network before it loses channels; None if it is not a classifier of timm."""
    if not isinstance(getattr(network, 'feature_info', None), list):
        return None
    counts = [(module, name, vars(module)[name]) for module in _heads(network) for name in COUNTS
              if name in vars(module)]
    return Features(_shapes(network), counts)


def tell_features(network: nn.Module, full: Features | None) -> None:
    """Correct the feature sizes that a network reports, in place, so that the classifier can be reset.

    Args:
        network: A network that has lost channels.
        full: Result of `find_features` before the channels were removed.
    """
    if full is None:
        return
    kept = _shapes(network)

    def new(value, now, *names: str):
        """Return the new size where the full network has `value` and this one reports `now`."""
        if isinstance(value, tuple | list):
            return type(value)(new(*items, *names) for items in zip(value, now))
        name = next((name for name in names if value in full.shapes.get(name, ())), None)
        return now if name is None else _kept(value, full.shapes[name], kept[name])

    for module, name, value in full.counts:
        vars(module)[name] = new(value, vars(module)[name], LAST, PRE_LOGITS)
    for feature in network.feature_info:
        feature['num_chs'] = new(feature['num_chs'], feature['num_chs'], feature['module'])


def _kept(channels: int, full: tuple[int, ...], kept: tuple[int, ...]) -> int:
    """Return how many of `channels` are kept if a feature of shape `full` has become one of shape `kept`."""
    return min(new for old, new in zip(full, kept) if old == channels)


def _heads(network: nn.Module) -> list[nn.Module]:
    """Return the network and the modules that contain the classifiers."""
    found = network.get_classifier()
    classifiers = set(found) if isinstance(found, tuple | nn.ModuleList) else {found}
    return [module for module in network.modules()
            if module not in classifiers and classifiers.intersection(module.modules())]


def _shapes(network: nn.Module) -> Shapes:
    """Return the output shapes of the modules in `feature_info`, of the last feature and of the pre-logits."""
    shapes: Shapes = {}

    def note(name: str, output) -> None:
        shapes[name] = _shape(output)

    weight = next(network.parameters())
    named = {feature['module'] for feature in network.feature_info}
    handles = [module.register_forward_hook(lambda _, args, output, name=name: note(name, output))
               for name, module in network.named_modules() if name in named]
    with evaluation(network), torch.no_grad(), weight.device:
        features = network.forward_features(torch.zeros(1, *probe_shape(network), dtype=weight.dtype))
        note(LAST, features)
        note(PRE_LOGITS, network.forward_head(features, pre_logits=True))
    for handle in handles:
        handle.remove()
    return shapes


def _shape(output) -> tuple[int, ...]:
    """Return the shape of a tensor, or the concatenated shapes of several tensors."""
    if isinstance(output, tuple | list):
        return sum(map(_shape, output), ())
    return tuple(output.shape)
