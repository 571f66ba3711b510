"""A network without computation, in which what a task does besides running it can be timed."""
import torch
from torch import nn


class _Given(torch.autograd.Function):
    """Logits whose gradients by the parameters are given."""

    @staticmethod
    def forward(ctx, logits, gradients, *parameters):
        ctx.gradients = gradients
        return logits.clone()

    @staticmethod
    def backward(ctx, grad_output):
        return None, None, *ctx.gradients


def make_instant(network: nn.Module, logits: torch.Tensor) -> None:
    """Makes a network return `logits` [N, classes] at once, and have gradients at once; its modules stay."""
    parameters = list(network.parameters())
    gradients = [torch.zeros_like(parameter) for parameter in parameters]
    network.forward = lambda images: _Given.apply(logits, gradients, *parameters)
