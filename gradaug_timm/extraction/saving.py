"""Writing a sub-network as a file."""
import json
import os
from collections.abc import Sequence
from dataclasses import replace

import timm
import torch
from safetensors.torch import save
from timm.data import resolve_data_config
from timm.models import get_model_args
from torch import nn

from ..data.class_names import own_names
from ..elastic import Subnet, extract
from ..elastic.network import elastic_state
from ..elastic.planning.replica import probe_shape
from ..files import written_aside
from ..models.gradaug_models import PREFIX
from ..regularizers import ResidualScale, ShakeDrop
from ..seeding import seeded
from ..training.checkpoints.public import path_free
from .description import DATA, NAMES, Description
from .loading import restore
from .rebuild import changed_numbers, create_plain


def save_extracted(
        model: nn.Module,
        subnet: Subnet,
        path: str | os.PathLike,
        *,
        model_kwargs: dict | None = None,
        data: dict | None = None,
        class_names: Sequence[str] | None = None,
) -> nn.Module:
    """Extract a sub-network and write it as one safetensors file, which `load_extracted` opens.

    Args:
        model: An elastic network that `timm.create_model` created.
        subnet: The sub-network.
        path: The file.
        model_kwargs: Arguments of `timm.create_model` that `timm.models.get_model_args` does not know.
        data: How the network sees images, as `timm.data.resolve_data_config` describes it; default: as `model` says.
        class_names: The names of the classes in the order of outputs; default: as `model` says, if it does.

    Returns:
        The dense network, on the CPU and in evaluation mode.

    Raises:
        ValueError: `model` is not elastic, or these arguments do not create such a network.
        OSError: The file can't be written.

    Example:
        >>> import timm
        >>> from gradaug_timm import Subnet, save_extracted
        >>> network = timm.create_model('gradaug_resnet20_cifar')
        >>> small = save_extracted(network, Subnet(width=0.5), 'small.safetensors')
        >>> network.conv1.out_channels, small.conv1.out_channels
        (16, 8)
    """
    network, state = elastic_state(model)
    cfg = getattr(network, 'pretrained_cfg', None) or {}
    if not timm.is_model(cfg.get('architecture', '')) or not isinstance(network.feature_info, list):
        raise ValueError(f'{type(network).__name__} can\'t be saved: it is not a classifier of timm.create_model')
    class_names = class_names or own_names(network)
    dense = extract(model, subnet).cpu().eval()
    blocks = () if state.plan is None else state.plan.blocks
    skipped = tuple(blocks[index] for index in subnet.skipped)
    before: Description | None = vars(network).get('extracted_as')  # an extract of an extract
    if before is not None:
        subnet, skipped = replace(subnet, width=before.width * subnet.width), (*before.skipped, *skipped)
    description = _describe(dense, subnet, skipped, model_kwargs, data or resolve_data_config({}, model=network))
    tensors = {name: tensor.detach().clone(memory_format=torch.contiguous_format)
               for tensors in (dense.named_parameters, dense.named_buffers)
               for name, tensor in tensors(remove_duplicate=False)}
    try:
        description = replace(description, numbers=changed_numbers(dense, create_plain(description)))
        metadata = description.to_metadata()
        if class_names:
            metadata[NAMES] = json.dumps(list(class_names))
        _check_same(dense, restore(Description.from_metadata(metadata), tensors))
    except ValueError as error:
        raise ValueError(f'{description.architecture} with model_kwargs={description.model_kwargs!r} is not '
                         f'the network to be saved: {error}') from error
    with written_aside(path) as partial, open(partial, 'wb') as file:
        file.write(save(tensors, metadata))
    return dense


def _describe(
        dense: nn.Module,
        subnet: Subnet,
        skipped: tuple[str, ...],
        model_kwargs: dict | None,
        data: dict,
) -> Description:
    """Return the description without the numbers."""
    model_kwargs = path_free(get_model_args(dense, model_kwargs))
    num_classes = model_kwargs.pop('num_classes')
    return Description(
        architecture=dense.pretrained_cfg['architecture'].removeprefix(PREFIX),
        model_kwargs=model_kwargs,
        num_classes=num_classes,
        width=subnet.width,
        divisor=subnet.divisor,
        skipped=skipped,
        scales=_scales(dense),
        numbers={},
        features=tuple(feature['num_chs'] for feature in dense.feature_info),
        data={name: data[name] for name in DATA},
        versions=Description.current_versions(),
    )


def _scales(dense: nn.Module) -> dict[str, float]:
    """Return the factors of residual branches in evaluation, by the place of their DropPath."""
    scaling = {ShakeDrop: 'expected_factor', ResidualScale: 'factor'}
    return {name: float(getattr(module, scaling[type(module)]))
            for name, module in dense.named_modules() if type(module) in scaling}


def _check_same(dense: nn.Module, restored: nn.Module) -> None:
    weight = next(dense.parameters())
    image = torch.rand(1, *probe_shape(dense), generator=seeded(0)).to(weight.dtype)
    with torch.no_grad():
        if not torch.allclose(dense(image), restored(image), rtol=0, atol=0, equal_nan=True):
            raise ValueError('its outputs differ')
