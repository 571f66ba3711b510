"""Sub-networks as stand-alone networks."""
import copy

from torch import nn

from ..upstream import own_buffers, own_parameters
from .attributes import numbers_of, tell_attributes
from .blocks import BLOCKS, SKIP, Skippable, SkippableResidual, drop_at_random
from .features import find_features, tell_features
from .network import ATTRIBUTE, elastic_state
from .slicing import Cut, elastic_class
from .subnet import Subnet
from .supported import check_supported
from .swap import TRACKING, make_view, restore_classes, without_caches


def extract(model: nn.Module, subnet: Subnet) -> nn.Module:
    """Return a stand-alone dense network of plain layers that computes the same as `model` running as `subnet`.

    Blocks of stochastic depth are still skipped at random in training. BatchNorms start from the statistics
    recalibrated for `subnet`, if there are any, otherwise from the kept entries of the running statistics.

    Args:
        model: An elastic network; it may be wrapped by DDP or torch.compile, and is not changed.
        subnet: The sub-network.

    Returns:
        A new network; skipped blocks are replaced by their shortcuts.

    Raises:
        ValueError: `model` is not elastic, `subnet` skips a block that does not exist, or another tool holds weights
            (pruning, parametrizations).

    Example:
        >>> import timm, torch
        >>> from gradaug_timm import Subnet, activate, extract
        >>> network = timm.create_model('gradaug_resnet20_cifar').eval()
        >>> small = extract(network, Subnet(width=0.5))
        >>> small.conv1
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
        >>> images = torch.randn(2, 3, 32, 32)
        >>> with activate(network, Subnet(width=0.5)):
        ...     torch.allclose(small(images), network(images), atol=1e-4)
        True
    """
    network, state = elastic_state(model)
    check_supported(network)
    dense = copy.deepcopy(network, without_caches(network))
    del vars(dense)[ATTRIBUTE]
    features, numbers = find_features(dense), numbers_of(dense)
    for module, kept in make_view(dense, state.plan, subnet, state.statistics.get(subnet)):
        for attribute, value in kept.items():
            _keep(module, attribute, value)
    leave_out(dense, [state.plan.blocks[index] for index in subnet.skipped])
    at_random = [module for module in dense.modules() if isinstance(module, Skippable) and module.survival < 1]
    restore_classes(dense)
    for block in at_random:
        drop_at_random(block, survival=block.survival)
    tell_attributes(dense, numbers, features)
    tell_features(dense, features)  # last: it knows whether the last features are kept at full width
    return dense


def leave_out(network: nn.Module, blocks: list[str]) -> None:
    """Replace residual blocks by their shortcuts, in place.

    Args:
        network: An elastic network, or one of plain modules.
        blocks: Names of blocks that can be skipped.
    """
    for name in blocks:
        block = network.get_submodule(name)
        if not isinstance(block, Skippable):
            block.__class__ = elastic_class(type(block), (), BLOCKS.get(type(block), SkippableResidual))
        network.set_submodule(name, block.dense_shortcut())


def _keep(module: nn.Module, attribute: str, value) -> None:
    """Make the value that an attribute has in a sub-network permanent."""
    for tensors in (own_parameters(module), own_buffers(module)):
        if attribute in tensors:
            old = tensors[attribute]
            new = value.of(old.detach()).clone() if isinstance(value, Cut) else value.to(old, copy=True)
            tensors[attribute] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
            return
    if attribute not in (SKIP, TRACKING):
        vars(module)[attribute] = value
