"""Cost of a sub-network in multiply-adds."""
from contextlib import nullcontext

import torch
from torch import nn

from ..upstream import FlopCount
from .network import activate
from .subnet import Subnet


@torch.no_grad()
def multiply_adds(
        model: nn.Module,
        subnet: Subnet | None = None,
        input_size: tuple[int, int, int] = (3, 224, 224),
) -> int:
    """Return the multiply-adds of convolutions and matrix products in the forward pass of one image.

    They are half of what torch's FlopCounterMode counts.

    Args:
        model: A network; it must be elastic unless `subnet` is None.
        subnet: The sub-network; None for the network as it is, which may be an active sub-network.
        input_size: Channels, height and width.

    Example:
        >>> import timm
        >>> from gradaug_timm import Subnet, multiply_adds
        >>> network = timm.create_model('gradaug_resnet20_cifar')
        >>> multiply_adds(network, input_size=(3, 32, 32)), multiply_adds(network, Subnet(0.5), (3, 32, 32))
        (40818944, 10316928)
    """
    weight = next(model.parameters())
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        active = nullcontext() if subnet is None else activate(model, subnet)
        with active, FlopCount() as count:
            model(torch.zeros(1, *input_size, device=weight.device, dtype=weight.dtype))
    finally:
        for module, training in modes:
            module.training = training
    return count.total // 2
