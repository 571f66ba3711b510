"""The regularisers with Inductor, which is slow, and on a GPU, without waiting for the device."""
import pytest
import torch

from gradaug_timm import CifarResNet
from gradaug_timm.regularizers import DropBlockRamp, add_drop_block, add_shake_drop, add_stochastic_depth


def _trained(network, device: str = 'cpu', steps: int = 3) -> None:
    """Some steps of training, DropBlock's rates rising."""
    ramp = DropBlockRamp(network, steps)
    for done in range(steps):
        ramp.set(done)
        network(torch.randn(2, 3, 32, 32, device=device)).square().mean().backward()


@pytest.mark.slow
@pytest.mark.parametrize('add', [add_shake_drop, add_drop_block])
def test_inductor_compiles_it(add):
    network = add(CifarResNet(depth=8, num_classes=5))
    _trained(torch.compile(network, fullgraph=True))
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize('add', [add_shake_drop, add_drop_block, add_stochastic_depth])
def test_nothing_waits_for_the_device(add):
    network = add(CifarResNet(depth=8, num_classes=5)).cuda()
    _trained(network, 'cuda')
    torch.cuda.set_sync_debug_mode('error')
    try:
        _trained(network, 'cuda')
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
