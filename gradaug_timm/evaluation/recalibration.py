"""BatchNorm statistics of sub-networks, measured on training batches."""
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ..elastic import Subnet, activate, set_statistics
from ..elastic.swap import is_batch_norm
from ..upstream import AnyBatchNorm

_logger = logging.getLogger(__name__)


def recalibrate(model: nn.Module, subnet: Subnet, batches: Iterable[torch.Tensor]) -> None:
    """Give a sub-network its own BatchNorm statistics: the exact means of its batches' means and variances.

    Afterwards `activate` and `extract` use them for this `subnet` in evaluation mode. The full network keeps its
    running statistics. A network without BatchNorm stays as it is, and no batch is read.

    Args:
        model: An elastic network, not wrapped by DDP or torch.compile.
        subnet: The sub-network.
        batches: Inputs on the network's device. Larger batches give better variances.

    Raises:
        ValueError: `batches` is empty.
    """
    recalibrate_all(model, [subnet], batches)


def recalibrate_all(model: nn.Module, subnets: Sequence[Subnet], batches: Iterable[torch.Tensor]) -> None:
    """Recalibrate several sub-networks on the same batches; each batch is read once and not kept."""
    names = [name for name, _ in _batch_norms(model)]
    if not names:
        _logger.info('The network has no BatchNorm, so its sub-networks are not recalibrated.')
        return
    averages = {subnet: {name: BatchAverage() for name in names} for subnet in subnets}
    count = 0
    with torch.no_grad(), _batch_statistics(model):
        for input in batches:
            for subnet in subnets:
                with activate(model, subnet), _observed(model, averages[subnet]):
                    model(input)
            count += 1
    if not count:
        raise ValueError('recalibration needs at least one batch')
    for subnet, measured in averages.items():
        set_statistics(model, subnet, {name: average.compute() for name, average in measured.items() if average.count})


class BatchAverage:
    """The mean, over batches, of each channel's mean and unbiased variance."""

    def __init__(self):
        self.count = 0
        self.total = torch.zeros(2, 1)

    def update(self, input: torch.Tensor) -> None:
        """Add a batch: [N, C] or [N, C, ...]."""
        variance, mean = torch.var_mean(input.float().transpose(0, 1).flatten(1), dim=1)
        self.total = self.total.to(input.device) + torch.stack((mean, variance))
        self.count += 1

    def compute(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and variance, each [C]."""
        mean, variance = self.total / self.count
        return mean, variance


def _batch_norms(model: nn.Module) -> Iterator[tuple[str, AnyBatchNorm]]:
    for name, module in model.named_modules():
        if is_batch_norm(module):
            yield name, module


@contextmanager
def _batch_statistics(model: nn.Module):
    """Put everything in evaluation mode but BatchNorm, which uses its batch's statistics."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for _, norm in _batch_norms(model):
        norm.training = True
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _observed(model: nn.Module, averages: dict[str, BatchAverage]):
    with ExitStack() as stack:
        for name, module in _batch_norms(model):
            handle = module.register_forward_pre_hook(
                lambda _, inputs, average=averages[name]: average.update(inputs[0]))
            stack.callback(handle.remove)
        yield
