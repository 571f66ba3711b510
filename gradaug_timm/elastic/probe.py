"""Which input channel of a layer depends on which output channel of another, read off by differentiation.

The outputs of convolutions and linear layers are replaced by positive constants and norms by the identity, so the input
of a layer depends only on the outputs of the layers directly upstream, and all that stands between (additions,
concatenations, gates, pools) is the model's own code. A vector-Jacobian product of a layer's input with a cotangent on
some of its channels is non-zero just on the upstream channels that these depend on; cotangents on the channels whose
number has bit b, and on those whose number hasn't, name the channel with 2 log2(C) products.
"""
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

LEAVES = (nn.Conv2d, nn.Conv1d, nn.Linear)
Dependency = tuple[str, np.ndarray, np.ndarray]  # producer, its output channels, the consumer's channels that use them


@dataclass
class Trace:
    """What one forward pass of a probed network leaves behind.

    Args:
        outputs: For each leaf that ran the constant that replaced its output, an autograd leaf.
        inputs: For each leaf and channelwise layer that ran its input.
        result: The network's outputs.
    """
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    result: list[torch.Tensor] = field(default_factory=list)
    _known: dict[int, tuple[torch.Tensor, int, str]] = field(default_factory=dict)
    _same: dict[str, str] = field(default_factory=dict)

    def record(self, name: str, x: torch.Tensor) -> None:
        if name in self.inputs:
            raise ValueError(
                f'The network can\'t run as sub-networks: layer {name!r} runs more than once in a forward pass.')
        self.inputs[name] = x.clone()
        tensor, version, producer = self._known.get(id(x), (None, None, None))
        if tensor is x and x._version == version:
            self._same[name] = producer

    def remember(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Marks `x` as the untouched output of leaf `name`."""
        self._known[id(x)] = (x, x._version, name)
        return x

    def producer_of(self, x: torch.Tensor) -> str | None:
        tensor, version, producer = self._known.get(id(x), (None, None, None))
        return producer if tensor is x and x._version == version else None

    def dependencies(self, name: str) -> list[Dependency]:
        """Which channels of which leaves each input channel of layer `name` depends on."""
        x = self.inputs[name]
        if name in self._same:
            channels = np.arange(x.shape[channel_dim(x)])
            return [(self._same[name], channels, channels)]
        if not x.requires_grad or x.shape[channel_dim(x)] == 1:
            return []
        return _dependencies(x, {leaf: out for leaf, out in self.outputs.items() if out.shape[channel_dim(out)] > 1})

    def reaching_the_result(self) -> dict[str, np.ndarray]:
        """The output channels of leaves that the network's result depends on without a layer in between."""
        loss = sum((x * _positive(x.shape, x)).sum() for x in self.result)
        return {leaf: np.flatnonzero(hit[0]) for leaf, hit in _support([loss], [None], self.outputs).items()}


def trace(model: nn.Module, channelwise: tuple[type[nn.Module], ...], image: torch.Tensor) -> Trace:
    """Runs `model` (a copy that may be spoilt) on `image` [1, C, H, W] with its leaves replaced.

    Args:
        model: The network.
        channelwise: Classes of layers with parameters or buffers that treat each channel on its own.
        image: The input.
    """
    seen = Trace()
    for name, module in model.named_modules():
        if getattr(module, 'inplace', False):
            module.inplace = False
        if isinstance(module, LEAVES):
            module.forward = _leaf(seen, name, module.forward)
        elif isinstance(module, channelwise):
            identity = isinstance(module, nn.modules.batchnorm._NormBase | FrozenBatchNorm2d | nn.GroupNorm)
            module.forward = _channelwise(seen, name, None if identity else module.forward)
    with torch.enable_grad():
        result = model(image)
    seen.result = [result] if isinstance(result, torch.Tensor) else list(result)
    if not seen.result or not all(isinstance(x, torch.Tensor) for x in seen.result):
        raise ValueError(
            f'{type(model).__name__} can\'t run as sub-networks: it must return a tensor or a list of tensors.')
    return seen


def channel_dim(x: torch.Tensor) -> int:
    return 1 if x.dim() in (3, 4) else -1


def _leaf(seen: Trace, name: str, forward):
    def probed(x):
        seen.record(name, x)
        with torch.no_grad():
            shape = forward(x).shape
        seen.outputs[name] = _positive(shape, x).requires_grad_()
        return seen.remember(name, seen.outputs[name].clone())
    return probed


def _channelwise(seen: Trace, name: str, forward):
    def probed(x):
        seen.record(name, x)
        if forward is not None:
            return forward(x)
        producer = seen.producer_of(x)
        return x.clone() if producer is None else seen.remember(producer, x.clone())
    return probed


def _positive(shape: torch.Size, like: torch.Tensor) -> torch.Tensor:
    return torch.rand(shape, dtype=like.dtype, device=like.device) + 0.5


def _support(
        results: list[torch.Tensor],
        cotangents: list[torch.Tensor | None],
        outputs: dict[str, torch.Tensor],
) -> dict[str, np.ndarray]:
    """For each leaf output that is reached, bool [products, channels]: where the products are non-zero."""
    rows: dict[str, list] = {name: [] for name in outputs}
    for result, cotangent in zip(results, cotangents):
        gradients = torch.autograd.grad(
            result, list(outputs.values()), cotangent, retain_graph=True, allow_unused=True)
        for (name, out), gradient in zip(outputs.items(), gradients):
            dim = channel_dim(out)
            empty = torch.zeros(out.shape[dim], dtype=torch.bool)
            rows[name].append(empty if gradient is None else gradient.movedim(dim, 0).flatten(1).ne(0).any(1))
    hits = {name: torch.stack(row).numpy() for name, row in rows.items() if row}
    return {name: hit for name, hit in hits.items() if hit.any()}


def _dependencies(x: torch.Tensor, outputs: dict[str, torch.Tensor]) -> list[Dependency]:
    dim = channel_dim(x)
    channels = torch.arange(x.shape[dim])
    bits = [channels >> bit & 1 for bit in range(max(1, math.ceil(math.log2(len(channels)))))]
    everything = _support([x], [_positive(x.shape, x)], outputs)
    outputs = {name: outputs[name] for name in everything}
    found, ambiguous = [], {}
    coded = _products(x, [mask == value for mask in bits for value in (1, 0)], outputs)
    for name, hit in coded.items():
        ones, zeros = hit[0::2], hit[1::2]
        if (ones & zeros).any():
            ambiguous[name] = outputs[name]
            continue
        used = np.flatnonzero((ones | zeros).any(0))
        found.append((name, used, (ones[:, used] << np.arange(len(bits))[:, None]).sum(0)))
    if ambiguous:
        one_by_one = _products(x, [channels == index for index in channels], ambiguous)
        for name, hit in one_by_one.items():
            consumer, producer = np.nonzero(hit)
            found.append((name, producer, consumer))
    return found


def _products(x: torch.Tensor, masks: list[torch.Tensor], outputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    shape = [1] * x.dim()
    shape[channel_dim(x)] = -1
    weights = _positive(x.shape, x)
    return _support([x] * len(masks), [weights * mask.view(shape) for mask in masks], outputs)
