"""Passes of sub-networks that could only repeat the full network's, from which nothing is learnt."""
import torch
from torch import nn

from ..elastic.network import elastic_state
from ..elastic.subnet import Subnet
from ..elastic.swap import is_batch_norm


def is_whole(model: nn.Module, subnet: Subnet) -> bool:
    """Whether a sub-network computes what the full network does, in training and from the same random numbers.

    Args:
        model: An elastic network.
        subnet: The sub-network.
    """
    if subnet.skipped or subnet.updates_statistics or _reads_buffers(model):
        return False
    plan = elastic_state(model)[1].plan
    return subnet.width == 1 or all(
        index in plan.frozen or group.kept(subnet) == group.units for index, group in enumerate(plan.groups))


def _reads_buffers(model: nn.Module) -> bool:
    """Whether layers other than BatchNorm have numbers that the full network's pass may have changed."""
    return any(
        buffer is not None and buffer.is_floating_point()
        for module in model.modules() if not is_batch_norm(module) for buffer in module._buffers.values())


def random_states(device: torch.device) -> list[torch.Tensor] | None:
    """The states of the generators that passes on a device draw from, read on the host; None where that can't be."""
    if device.type not in ('cpu', 'cuda'):
        return None
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == 'cuda' else [])]


def rng_unchanged(device: torch.device, before: list[torch.Tensor] | None) -> bool:
    """Whether no random numbers were drawn since `random_states` gave `before`."""
    return before is not None and all(map(torch.equal, before, random_states(device)))
