"""A sub-network as a network of its own."""
import copy

from torch import nn

from ..upstream import own_buffers, own_parameters
from .blocks import BLOCKS, SKIP, Skippable, SkippableResidual, drop_at_random
from .features import find_features, tell_features
from .network import ATTRIBUTE, elastic_state
from .slicing import Cut, elastic_class
from .subnet import Subnet
from .swap import TRACKING, make_view, restore_classes, without_caches


def extract(model: nn.Module, subnet: Subnet) -> nn.Module:
    """A stand-alone dense network of plain layers that computes what `model` computes as `subnet`.

    Blocks of stochastic depth are still left out at random in training.

    Its BatchNorms start from the statistics recalibrated for `subnet` where there are some, else from the kept entries
    of the running ones.

    Args:
        model: An elastic network, under DDP's or torch.compile's wrapper or not; it is left as it is.
        subnet: The sub-network.

    Returns:
        A new network; skipped blocks are replaced by their shortcuts.

    Raises:
        ValueError: `model` isn't elastic, or `subnet` skips a block that it doesn't have.
    """
    network, state = elastic_state(model)
    dense = copy.deepcopy(network, without_caches(network))
    del vars(dense)[ATTRIBUTE]
    features = find_features(dense)
    for module, kept in make_view(dense, state.plan, subnet, state.statistics.get(subnet)):
        for attribute, value in kept.items():
            _keep(module, attribute, value)
    leave_out(dense, [state.plan.blocks[index] for index in subnet.skipped])
    at_random = [module for module in dense.modules() if isinstance(module, Skippable) and module.survival < 1]
    restore_classes(dense)
    for block in at_random:
        drop_at_random(block, survival=block.survival)
    tell_features(dense, features)
    return dense


def leave_out(network: nn.Module, blocks: list[str]) -> None:
    """Replaces residual blocks, in place, by their shortcuts.

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
    """Makes what a module shows in a sub-network permanent."""
    for tensors in (own_parameters(module), own_buffers(module)):
        if attribute in tensors:
            old = tensors[attribute]
            new = value.of(old.detach()).clone() if isinstance(value, Cut) else value.to(old)
            tensors[attribute] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
            return
    if attribute not in (SKIP, TRACKING):
        vars(module)[attribute] = value
