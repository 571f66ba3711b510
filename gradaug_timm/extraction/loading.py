"""Opening the file of an extracted network."""
import json
import os

import torch
from safetensors import safe_open
from torch import nn

from ..cli import one_line
from ..data.class_names import read_names
from ..upstream import own_buffers, own_parameters
from .description import NAMES, Description
from .rebuild import create_plain, set_metadata, set_numbers


def load_extracted(path: str | os.PathLike) -> nn.Module:
    """Open a network that `save_extracted` or `python -m gradaug_timm.extract` wrote; runs no code from the file.

    Args:
        path: The file.

    Returns:
        A network of plain layers on the CPU, in evaluation mode. Its attribute `extracted_as` says what the file says.

    Raises:
        ValueError: The file does not exist, is damaged, was written by another program or a newer version, or timm
            lacks the network.

    Example:
        >>> import timm
        >>> from gradaug_timm import Subnet, load_extracted, save_extracted
        >>> network = timm.create_model('gradaug_resnet20_cifar')
        >>> _ = save_extracted(network, Subnet(width=0.5), 'small.safetensors')
        >>> load_extracted('small.safetensors').conv1.out_channels
        8
    """
    if not os.path.isfile(path):
        raise ValueError(f'{path} does not exist')
    try:
        with safe_open(path, 'pt') as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name).clone() for name in file.keys()}
    except Exception as error:  # safetensors has one of its own, and passes on those of Rust
        raise ValueError(f'{path} can\'t be read: {one_line(error, None)}') from error
    try:
        description = Description.from_metadata(metadata)
    except ValueError as error:
        raise ValueError(f'{path} can\'t be opened: {error}') from error
    try:
        network = restore(description, tensors)
    except ValueError as error:
        written = ', '.join(f'{name} {version}' for name, version in description.versions.items())
        raise ValueError(f'{path} can\'t be opened: {error} (it was written with {written})') from error
    names = _read_names(metadata)
    if names is not None:
        network.pretrained_cfg['label_names'] = names
    return network


def _read_names(metadata: dict[str, str]) -> list[str] | None:
    """Return the names of the classes; None if they are unknown."""
    try:
        names = read_names(json.loads(metadata.get(NAMES, 'null')))
    except (RecursionError, ValueError):
        return None
    return list(names) if names else None


def restore(description: Description, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Return the network of that description with these parameters and buffers.

    Raises:
        ValueError: They do not fit each other, or timm lacks the network.
    """
    network = create_plain(description)
    set_numbers(network, description.numbers)
    _set_tensors(network, tensors)
    set_metadata(network, description)
    vars(network)['extracted_as'] = description
    return network


def _set_tensors(network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Replace a network's parameters and buffers by tensors, which may be smaller."""
    places = {f'{name}.{key}'.lstrip('.'): (holder, key, tensor)
              for name, module in network.named_modules(remove_duplicate=False)
              for holder in (own_parameters(module), own_buffers(module))
              for key, tensor in holder.items() if tensor is not None}
    missing, unknown = places.keys() - tensors.keys(), tensors.keys() - places.keys()
    if missing or unknown:
        raise ValueError('; '.join(f'{what} {", ".join(sorted(names)[:3])}{", ..." if len(names) > 3 else ""}'
                                   for what, names in (('it lacks', missing), ('it has unknown', unknown)) if names))
    state = network.state_dict()  # without buffers that may be of other sizes for other images
    for name, (holder, key, old) in places.items():
        new = tensors[name]
        if name in state and (new.dim() != old.dim() or any(map(int.__gt__, new.shape, old.shape))):
            raise ValueError(f'{name} is of shape {tuple(new.shape)}, the full network\'s is {tuple(old.shape)}')
        if new.is_floating_point() != old.is_floating_point():
            raise ValueError(f'{name} is of type {new.dtype}, the full network\'s is {old.dtype}')
        holder[key] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
