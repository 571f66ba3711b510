"""Training and evaluation mode."""
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Return a context in which a network is in evaluation mode; afterwards the modes are as before."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        network.train()  # makes some layers of timm clear values cached for evaluation
        for module, training in modes:
            module.training = training
