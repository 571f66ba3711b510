"""The plain network of timm that becomes an extracted network, and the integers in which the two differ."""
import inspect
from typing import Any

import timm
import torch
from timm.layers import DropPath
from torch import nn

from ..cli import one_line
from ..elastic.attributes import is_number
from ..elastic.standalone import leave_out
from ..regularizers import ResidualScale, residual_places
from .description import DATA, Description, Number

OF_THE_WEIGHTS = frozenset((
    'url', 'file', 'state_dict', 'hf_hub_id', 'hf_hub_filename', 'source', 'tag', 'test_input_size', 'test_crop_pct'))


def create_plain(description: Description) -> nn.Module:
    """Return the network with all channels and no data, on the meta device; blocks are left out and branches scaled.

    Raises:
        ValueError: timm can't create it, or it has no such blocks or branches.
    """
    name = description.architecture
    if not timm.is_model(name):
        raise ValueError(f'its architecture {name!r} is unknown to timm {timm.__version__}')
    taken = set(inspect.signature(timm.create_model).parameters) & set(description.model_kwargs)
    if taken:
        raise ValueError(f'its model_kwargs hold {", ".join(sorted(taken))}, which is not an argument of a network')
    try:
        with torch.device('meta'):
            network = timm.create_model(name, num_classes=description.num_classes, **description.model_kwargs)
    except Exception as error:  # whatever a network's constructor may raise
        raise ValueError(f'{name} can\'t be created: {one_line(error, None)}') from error
    _scale(network, description.scales)
    for block in description.skipped:
        if not isinstance(block, str) or block not in dict(network.named_modules()) or not block:
            raise ValueError(f'{name} has no block {block!r}')
        leave_out(network, [block])
    return network.eval()


def _scale(network: nn.Module, scales: dict[str, float]) -> None:
    if not scales:
        return
    names = {module: name for name, module in network.named_modules()}
    places = {f'{names[block]}.{attribute}': (block, attribute) for block, attribute in residual_places(network)}
    for name, factor in scales.items():
        if name not in places or not isinstance(factor, float):
            raise ValueError(f'{type(network).__name__} has no residual branch {name!r}')
        setattr(*places[name], ResidualScale(factor))


def changed_numbers(network: nn.Module, plain: nn.Module) -> dict[str, Number]:
    """Return the integers, and sequences of integers, that differ from those of `plain`, by 'module.attribute'.

    Raises:
        ValueError: The networks do not have the same modules.
    """
    modules, others = _of_evaluation(network), _of_evaluation(plain)
    if modules.keys() != others.keys():
        differing = sorted(modules.keys() ^ others.keys())
        raise ValueError(f'only one of them has {", ".join(differing[:3])}{", ..." if len(differing) > 3 else ""}')
    found = {}
    for name, module in modules.items():
        for attribute, value in vars(module).items():
            if is_number(value) and value != vars(others[name]).get(attribute):
                found[f'{name}.{attribute}'] = value
    return found


def _of_evaluation(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules by name, without DropPath, which evaluation does not use and not all have."""
    return {name: module for name, module in network.named_modules() if not isinstance(module, DropPath)}


def set_numbers(network: nn.Module, numbers: dict[str, Number]) -> None:
    """Set integers of a network's modules, in place.

    Raises:
        ValueError: The network does not have such integers.
    """
    modules = dict(network.named_modules())
    for name, value in numbers.items():
        module, _, attribute = name.rpartition('.')
        old: Any = vars(modules[module]).get(attribute) if module in modules else None
        items = old if isinstance(old, tuple | list) else (old,)
        new = value if isinstance(value, tuple) else (value,)
        if not is_number(old) or not is_number(value) or len(items) != len(new):
            raise ValueError(f'{type(network).__name__} has no number {name!r} that could be {value!r}')
        modules[module].__dict__[attribute] = type(old)(value)


def set_metadata(network: nn.Module, description: Description) -> None:
    """Set the network's own features, images and classes in its metadata, and remove timm's weights from it.

    Raises:
        ValueError: The network has another number of features.
    """
    features = description.features
    if len(features) != len(network.feature_info) or not all(type(channels) is int for channels in features):
        raise ValueError(f'{description.architecture} has {len(network.feature_info)} features, not {features}')
    for feature, channels in zip(network.feature_info, features):
        feature['num_chs'] = channels
    cfg = {name: value for name, value in network.pretrained_cfg.items() if name not in OF_THE_WEIGHTS}
    cfg |= {name: description.data[name] for name in DATA if name in description.data}
    cfg['num_classes'] = description.num_classes
    network.pretrained_cfg = network.default_cfg = cfg  # type: ignore[assignment]
