"""The passes of a step through sub-networks: one loss, and no more memory than that of one pass."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..elastic import Subnet, activate, show_parts
from ..upstream import is_compiled, recomputes
from .carried_loss import CarriedLoss
from .loss_scale import EarlyLossScale


@dataclass(frozen=True)
class Pass:
    """A sub-network, and what computes its loss [] while it is active."""
    subnet: Subnet
    loss: Callable[[], torch.Tensor]


def run_passes(
        network: nn.Module,
        loss: torch.Tensor,
        passes: Sequence[Pass],
        *,
        elastic: nn.Module | None = None,
        scale: EarlyLossScale | None = None,
        keeps_last: bool = False,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Runs sub-networks one after the other, each differentiated as soon as its loss is known.

    Args:
        network: What is trained, below DDP's wrapper.
        loss: The full network's loss [], whose graph is alive; it is differentiated first.
        passes: The sub-networks.
        elastic: The part of `network` that runs as a sub-network; None: the whole.
        scale: The scale for fp16; None without.
        keeps_last: Leave the last pass's graph to the caller's backward, for which DDP waits.

    Returns:
        The sum of all losses [], for one `backward()`; and those of the passes, detached.
    """
    compiled = is_compiled(network)
    checkpoints = any(recomputes(module) for module in network.modules())
    in_parts = not checkpoints and not compiled
    keeps_last = keeps_last and not checkpoints  # checkpointed activations need the sub-network in backward
    carried = CarriedLoss([p for p in network.parameters() if p.requires_grad], scale, copies=compiled)
    carried.add(loss)
    elastic, last, losses = network if elastic is None else elastic, None, []
    for index, each in enumerate(passes):
        is_kept = keeps_last and index == len(passes) - 1
        with activate(elastic, each.subnet):
            parts = show_parts(elastic) if in_parts and not is_kept else []
            loss = each.loss()
            losses.append(loss.detach())
            if is_kept:
                last = loss
            else:
                carried.add(loss, parts)
    return carried.total(last), losses
