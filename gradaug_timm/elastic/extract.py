"""A sub-network as a network of its own."""
import copy

from torch import nn

from .blocks import Skippable, drop_at_random
from .network import ATTRIBUTE, elastic_state
from .slicing import Cut
from .subnet import Subnet
from .swap import TRACKING, make_view, restore_classes


def extract(model: nn.Module, subnet: Subnet) -> nn.Module:
    """A stand-alone dense network of plain layers that computes what `model` computes as `subnet`.

    Blocks of stochastic depth are still left out at random in training.

    Its BatchNorms start from the statistics recalibrated for `subnet` where there are some, else from the kept entries
    of the running ones.

    Args:
        model: An elastic network, under DDP's or torch.compile's wrapper or not; it is left as it is.
        subnet: The sub-network.

    Returns:
        A new network; skipped blocks are replaced by their shortcuts. `feature_info` still tells the full network's.

    Raises:
        ValueError: `model` isn't elastic, or `subnet` skips a block that it doesn't have.
    """
    network, state = elastic_state(model)
    dense = copy.deepcopy(network)
    del vars(dense)[ATTRIBUTE]
    width_only = Subnet(subnet.width, subnet.divisor)
    for module, kept in make_view(dense, state.plan, width_only, state.statistics.get(subnet)):
        for attribute, value in kept.items():
            _keep(module, attribute, value)
    for index in subnet.skipped:
        name = state.plan.blocks[index]
        parent, _, child = name.rpartition('.')
        setattr(dense.get_submodule(parent), child, dense.get_submodule(name).dense_shortcut())
    at_random = [module for module in dense.modules() if isinstance(module, Skippable) and module.survival < 1]
    restore_classes(dense)
    for block in at_random:
        drop_at_random(block, survival=block.survival)
    _tell_features(dense, network)
    return dense


def _keep(module: nn.Module, attribute: str, value) -> None:
    """Makes what a module shows in a sub-network permanent."""
    for tensors in (module._parameters, module._buffers):
        if attribute in tensors:
            old = tensors[attribute]
            new = value.of(old.detach()).clone() if isinstance(value, Cut) else value.to(old)
            tensors[attribute] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
            return
    if attribute != TRACKING:
        vars(module)[attribute] = value


def _tell_features(dense: nn.Module, network: nn.Module) -> None:
    """Corrects what timm's networks know of the features before their classifier, so that it can be reset."""
    if not hasattr(network, 'get_classifier') or not isinstance(network.get_classifier(), nn.Linear):
        return
    narrow, full = dense.get_classifier().in_features, network.get_classifier().in_features
    for name in ('num_features', 'head_hidden_size'):
        setattr(dense, name, getattr(network, name) * narrow // full)
