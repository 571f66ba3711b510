"""Checks of a network that can run as its sub-networks."""
import copy
import itertools
import time
from dataclasses import dataclass

import torch
from timm.models import create_model
from torch import nn

from ..elastic import Plan, Subnet, activate, extract, multiply_adds
from ..elastic.network import install, plan_of
from ..elastic.planning.reference import masked_forward
from ..elastic.planning.replica import probe_shape, replica_of
from ..elastic.slicing import Ranges
from ..elastic.swap import is_batch_norm

WIDTHS = (0.5, 0.75, 0.9)
BATCH = 2
LARGE = 100_000_000  # number of parameters from which checks use single precision


class Misfit(Exception):
    """Error of a sub-network that does not pass a check."""


@dataclass(frozen=True)
class Finding:
    """Result of the checks of an architecture.

    Args:
        module: timm's module.
        architecture: The architecture.
        share: Multiply-adds of width 0.75, divided by the full network's, at the network's own input size.
        groups: Groups of channels.
        whole: Groups of channels that stay at full width in every sub-network.
        blocks: Residual blocks that random depth may skip.
        seconds: Planning time.
        reason: Why the network can't run as sub-networks; empty if it can.
    """
    module: str
    architecture: str
    share: float = 1.
    groups: int = 0
    whole: int = 0
    blocks: int = 0
    seconds: float = 0.
    reason: str = ''


def check_model(module: str, architecture: str) -> Finding:
    """Check an architecture with random weights, at divisor 1.

    Args:
        module: timm's module.
        architecture: The architecture.
    """
    torch.manual_seed(0)
    plain = create_model(architecture, num_classes=10)
    model = create_model(f'gradaug_{architecture}', num_classes=10)
    model.load_state_dict(plain.state_dict())
    start = time.perf_counter()
    try:
        plan = plan_of(model)
        seconds = time.perf_counter() - start
        share = _check_full(model, plain)
        del model  # memory does not suffice for many copies of a large network
        check_subnets(replica_of(plain), plan)
    except (Misfit, ValueError) as error:
        return Finding(module, architecture, seconds=time.perf_counter() - start, reason=str(error))
    whole = sum(group.units == 1 or index in plan.frozen for index, group in enumerate(plan.groups))
    return Finding(module, architecture, share, len(plan.groups), whole, len(plan.blocks), seconds)


def _check_full(model: nn.Module, plain: nn.Module) -> float:
    """Check that outputs at full width equal those of the plain network; return the cost share of width 0.75."""
    size = plain.pretrained_cfg['input_size']
    image = torch.rand(1, *size)
    with torch.no_grad():
        if not torch.equal(model.eval()(image), plain.eval()(image)):
            raise Misfit('the full network\'s output has changed')
    share = multiply_adds(model, Subnet(0.75, divisor=1), size) / multiply_adds(plain, None, size)
    if share == 1:
        raise Misfit('sub-networks keep all channels of the network')
    return share


def check_subnets(small: nn.Module, plan: Plan) -> None:
    """Check a network running as sub-networks, forward and backward, in evaluation and training mode.

    Args:
        small: The plain network with random parameters, for small images (`elastic.planning.replica.replica_of`).
        plan: The plan of the network.

    Raises:
        Misfit: A sub-network differs from the masked full-size network or from the extracted dense network, or
            parameters outside of it have gradients; or the full network differs from the plain network.
    """
    dtype = torch.float64 if sum(parameter.numel() for parameter in small.parameters()) < LARGE else torch.float32
    plain = small.to(dtype).requires_grad_()
    images = torch.randn(BATCH, *probe_shape(plain), dtype=dtype)
    _fit_statistics(plain, images)
    model = install(copy.deepcopy(plain), plan)
    for width in WIDTHS:
        subnet = Subnet(width, divisor=1)
        with torch.no_grad(), activate(model.eval(), subnet):
            output = model(images)
        with torch.no_grad():
            _agree(output, masked_forward(plain.eval(), plan, subnet, images), f'the masked network at width {width}')
        dense = extract(model, subnet)
        for training in (False, True):
            _check_gradients(model.train(training), dense.train(training), plan, subnet, images)
    for training in (False, True):
        outputs = []
        for network in (model, plain):
            torch.manual_seed(1)
            outputs.append(network.train(training)(images))
        if not torch.equal(*outputs):
            raise Misfit('the full network\'s output has changed')


def _fit_statistics(network: nn.Module, images: torch.Tensor) -> None:
    """Set BatchNorm statistics to those of a batch; with others, random weights may make activations overflow."""
    for module in network.modules():
        if is_batch_norm(module):
            module.momentum = None  # use the mean of all batches
    with torch.no_grad():
        network.train()(images)


def _check_gradients(model: nn.Module, dense: nn.Module, plan: Plan, subnet: Subnet, images: torch.Tensor) -> None:
    """Check that output and gradients equal those of the dense network, and that gradients outside are zero."""
    outputs = []
    for network in (model, dense):
        network.zero_grad()
        torch.manual_seed(1)
        active = activate(model, subnet) if network is model else torch.enable_grad()
        with active:
            outputs.append(network(images))
            outputs[-1].square().sum().backward()
    where = f'the extracted network at width {subnet.width}{", training" if model.training else ""}'
    _agree(outputs[0], outputs[1], where)
    ranges, parameters = plan.ranges(subnet), dict(dense.named_parameters())
    scale = max(float(parameter.grad.abs().max()) for parameter in parameters.values() if parameter.grad is not None)
    for name, parameter in model.named_parameters():
        gradient, expected = parameter.grad, parameters[name].grad
        if gradient is None and expected is None:
            continue
        gradient = torch.zeros_like(parameter) if gradient is None else gradient
        inside, outside = _divided(gradient, ranges.get(name, ()))
        if outside.any():
            raise Misfit(f'{name} has gradients outside of width {subnet.width}')
        expected = torch.zeros_like(inside) if expected is None else expected
        _agree(inside, expected, f'the gradient of {name} in {where}', scale=scale)


def _divided(tensor: torch.Tensor, dims: tuple[Ranges | None, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kept part of a tensor, and the tensor with zeros in place of this part."""
    kept = [torch.arange(length) if runs is None else
            torch.cat([torch.arange(start, start + count) for start, count in runs])
            for length, runs in itertools.zip_longest(tensor.shape, dims)]
    index = torch.meshgrid(*kept, indexing='ij')
    return tensor[index], tensor.index_put(index, torch.zeros(()).to(tensor))


def _agree(a: torch.Tensor, b: torch.Tensor, what: str, *, scale: float | None = None) -> None:
    scale = float(b.detach().abs().max()) if scale is None else scale
    tolerance = 1e-6 if a.dtype == torch.float64 else 1e-3
    if a.shape != b.shape or not torch.allclose(a, b, rtol=tolerance, atol=tolerance * scale):
        raise Misfit(f'it differs from {what}')
