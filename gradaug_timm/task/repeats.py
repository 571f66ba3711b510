"""Detection of passes that would only repeat the full network's pass and so have zero gradients."""
import torch
from torch import nn

from ..elastic.network import elastic_state
from ..elastic.plan import Plan
from ..elastic.subnet import Subnet
from ..elastic.swap import is_batch_norm


def is_whole(model: nn.Module, subnet: Subnet) -> bool:
    """Return whether a sub-network computes the same as the full network in training with the same random numbers.

    Args:
        model: An elastic network.
        subnet: The sub-network.
    """
    if subnet.skipped or subnet.updates_statistics:
        return False
    return (subnet.width == 1 or _keeps_all(elastic_state(model)[1].plan, subnet)) and not _reads_buffers(model)


def _keeps_all(plan: Plan | None, subnet: Subnet) -> bool:
    return plan is not None and all(
        index in plan.frozen or group.kept(subnet) == group.units for index, group in enumerate(plan.groups))


def _reads_buffers(model: nn.Module) -> bool:
    """Return whether layers other than BatchNorm have buffers that the full network's pass may have changed."""
    return any(
        buffer.is_floating_point()
        for module in model.modules() if not is_batch_norm(module) for buffer in module.buffers(recurse=False))


def random_states(device: torch.device) -> list[torch.Tensor] | None:
    """Return the states of the generators from which passes on a device draw; None if they cannot be read."""
    if device.type not in ('cpu', 'cuda'):
        return None
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == 'cuda' else [])]


def rng_unchanged(device: torch.device, before: list[torch.Tensor] | None) -> bool:
    """Return whether no random numbers were drawn since `random_states` returned `before`."""
    if before is None:
        return False
    now = random_states(device)
    return now is not None and all(map(torch.equal, before, now))
