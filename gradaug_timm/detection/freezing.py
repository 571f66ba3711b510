"""Freezing of a network's first stages in fine-tuning."""
import torch
from timm.data import resolve_model_data_config
from torch import nn


def stage_parameters(body: nn.Module, stages: int) -> list[nn.Parameter]:
    """Return the weights that the first feature maps of a network depend on, stem included.

    Args:
        body: A timm network made by `features_only`, on the CPU.
        stages: Number of maps; 0: none.
    """
    if not stages:
        return []
    parameters, training = list(body.parameters()), body.training
    maps = body.eval()(torch.zeros(1, *resolve_model_data_config(body)['input_size']))
    gradients = torch.autograd.grad(maps[stages - 1].sum(), parameters, allow_unused=True)
    body.train(training)
    return [parameter for parameter, gradient in zip(parameters, gradients) if gradient is not None]


def freeze(body: nn.Module, stages: int) -> None:
    """Freeze the weights of the first stages."""
    for parameter in stage_parameters(body, stages):
        parameter.requires_grad_(False)
