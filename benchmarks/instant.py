"""A network without computation, to time everything in a task except the network."""
import torch
from torch import nn


class _Given(torch.autograd.Function):
    """Logits with given gradients by the parameters."""

    @staticmethod
    def forward(ctx, logits, gradients, *parameters):
        ctx.gradients = gradients
        return logits.clone()

    @staticmethod
    def backward(ctx, grad_output):
        return None, None, *ctx.gradients


def make_instant(network: nn.Module, logits: torch.Tensor) -> None:
    """Make a network return `logits` [N, classes] and gradients without computing; the modules do not change."""
    parameters = list(network.parameters())
    gradients = [torch.zeros_like(parameter) for parameter in parameters]
    network.forward = lambda images: _Given.apply(logits, gradients, *parameters)
