"""A sub-network as a network of its own."""
import copy

from torch import nn

from .blocks import Skippable, drop_at_random
from .layers import Elastic
from .network import ATTRIBUTE, elastic_state
from .subnet import Subnet
from .swap import make_view, restore_classes


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
    for module in dense.modules():
        if isinstance(module, Elastic):
            vars(module)['kept'] = None
    width_only = Subnet(subnet.width, subnet.divisor)
    for module, kept in make_view(dense, state.plan, width_only, state.statistics.get(subnet)):
        module.shrink(kept)
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


def _tell_features(dense: nn.Module, network: nn.Module) -> None:
    """Corrects what timm's networks know of the features before their classifier, so that it can be reset."""
    if not hasattr(network, 'get_classifier') or not isinstance(network.get_classifier(), nn.Linear):
        return
    narrow, full = dense.get_classifier().in_features, network.get_classifier().in_features
    for name in ('num_features', 'head_hidden_size'):
        setattr(dense, name, getattr(network, name) * narrow // full)
