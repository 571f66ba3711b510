"""Passes of a step through sub-networks: one loss, with the memory of a single pass."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..elastic import PartCache, Subnet, activate, show_parts
from ..elastic.network import modules_of, trained_parameters
from ..upstream import is_compiled, recomputes
from .carried_loss import CarriedLoss
from .loss_scale import EarlyLossScale


@dataclass(frozen=True)
class Pass:
    """Sub-network, and the function that computes its loss [] while it is active."""
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
        cache: PartCache | None = None,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run sub-networks one after the other, and differentiate each as soon as its loss is known.

    Args:
        network: The trained network, below the wrapper of DDP.
        loss: The full network's loss [] with its graph; it is differentiated first.
        passes: The sub-networks.
        elastic: The part of `network` that runs as a sub-network; None for the whole network.
        scale: The loss scale for fp16; None without fp16.
        keeps_last: Keep the graph of the last pass for the caller's `backward()`, because DDP waits for it.
        cache: Kept parts of parameters, from step to step.

    Returns:
        The sum of all losses [], for one `backward()`; and the losses of the passes, detached.
    """
    compiled = is_compiled(network)
    modules = modules_of(network)
    checkpoints = any(recomputes(module) for module in modules)
    in_parts = not checkpoints and not compiled
    keeps_last = keeps_last and not checkpoints  # then backward must run while the sub-network is active
    carried = CarriedLoss(trained_parameters(modules), scale, copies=compiled)
    carried.add(loss)
    elastic, last, losses = network if elastic is None else elastic, None, []
    for index, each in enumerate(passes):
        is_kept = keeps_last and index == len(passes) - 1
        with activate(elastic, each.subnet):
            parts = show_parts(elastic, cache) if in_parts and not is_kept else []
            loss = each.loss()
            losses.append(loss.detach())
            if is_kept:
                last = loss
            else:
                carried.add(loss, parts)
    return carried.total(last), losses
