"""Probing: one forward pass of a network in which differentiation shows how layers are connected.

The outputs of convolutions and linear layers are replaced by positive constants. Normalisations, and activations that
are flat somewhere, are replaced by the identity. So the input of each layer depends only on the outputs of the layers
directly upstream and on parameters in between (scales, tokens, tables). Everything between layers (additions,
concatenations, splits, gates, heads) is the model's own code. Layers are recognised as calls of torch's functions, so
it does not matter which module makes the call, or with which module's parameters.
"""
import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .calls import REPLACED, RESHAPING, SIZING, SPLITTING
from .numbers import TrackedInt, track_numbers, tracked
from .trace import Key, Leaf, Sized, Trace, Use

FEW_GROUPS = 8  # a convolution with fewer groups keeps a part of each group instead of dropping whole groups


def trace(model: nn.Module, seen: Trace, image: torch.Tensor) -> None:
    """Run `model` on `image` with its layers replaced, and record the pass in `seen`.

    Args:
        model: A copy of the network in evaluation mode; it cannot be used for anything else afterwards.
        seen: The record of the pass.
        image: The input [1, C, H, W].

    Raises:
        ValueError: The network returns something other than tensors, or has no layers.
    """
    for module in model.modules():
        if getattr(module, 'inplace', False):
            module.inplace = False
    track_numbers(model)
    names = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            names[id(tensor)] = name
            seen.channels.update({(name, dim): length for dim, length in enumerate(tensor.shape)})
            keys = tuple((name, dim) if length > 1 else None for dim, length in enumerate(tensor.shape))
            seen.leaves.append(Leaf(tensor.requires_grad_(), keys, False, tensor.shape))
    with torch.enable_grad(), Probe(seen, names):
        result = model(image)
    seen.result = list(result) if isinstance(result, list | tuple) else [result]
    if not seen.result or not all(isinstance(x, torch.Tensor) for x in seen.result):
        raise ValueError(
            f'{type(model).__name__} can\'t run as sub-networks: it must return a tensor or a list of tensors.')
    if not seen.made:
        raise ValueError(f'{type(model).__name__} can\'t run as sub-networks: it has no convolution or linear layer.')


class Probe(TorchFunctionMode):
    """Mode that replaces calls of layers and normalisations, and records the channels that they use.

    Args:
        seen: The record of the pass.
        names: Id of each parameter and buffer -> name.
    """

    def __init__(self, seen: Trace, names: dict[int, str]):
        super().__init__()
        self.seen = seen
        self.names = names

    def __torch_function__(self, func, types, args=(), kwargs=None):
        replacement = REPLACED.get(func)
        if replacement is not None:
            return replacement(self, func, *args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if func in SPLITTING and isinstance(args[1], tuple | list):
            for number, piece in zip(args[1], result):
                for origin in tracked(number):
                    self._note_sized(origin, piece, [])
        elif func in SIZING:
            shape = args[1:] if func in RESHAPING else ()
            shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
            for number in tracked(args) + tracked(kwargs):
                self._note_sized(number, result, [dim for dim, length in enumerate(shape) if length is number])
        return result

    def _note_sized(self, number: TrackedInt, result, dims: list[int]) -> None:
        for x in [result] if isinstance(result, torch.Tensor) else result:
            if x.requires_grad:
                self.seen.sized += [Sized(number, x, dim)
                                    for dim in dims or range(x.dim()) if x.shape[dim] == number > 1]

    def layer(self, func, x, weight, bias, *args, dim: int, groups: int = 1, transposed: bool = False, **kwargs):
        """Replace the output of a convolution or linear layer over dimension `dim` of `x` by a constant."""
        if id(weight) not in self.names and not self._is_parameters_alone(weight):
            return func(x, weight, bias, *args, **kwargs)
        out, inp = self._key(weight, int(transposed)), self._key(weight, int(not transposed))
        if groups > 1:
            out, inp = self._grouped(out if not transposed else inp, x.shape[dim], groups, weight, transposed)
        self._join(bias, out)
        self._use(x, dim, inp)
        with torch.no_grad():
            shape = func(x, weight, bias, *args, **kwargs).shape
        constant = positive(shape, x).requires_grad_()
        channels = dim % len(shape) if shape[dim] > 1 else None
        keys = tuple(out if d == channels else None for d in range(len(shape)))
        self.seen.leaves.append(Leaf(constant, keys, True, shape))
        if isinstance(weight, nn.Parameter) or id(weight) not in self.names:  # not a fixed transformation
            self.seen.made.append(out)
        self.seen.layers += 1
        self.seen.consumed.append(inp)
        if id(weight) in self.names:
            self.seen.inputs[self.names[id(weight)]] = inp
        return constant.clone()

    def norm(self, x, dim: int, *tensors: torch.Tensor | None) -> torch.Tensor:
        """Return `x` unchanged instead of normalised, and record that each channel uses these weights or statistics."""
        named = [tensor for tensor in tensors if tensor is not None]
        if named and named[0].numel() == x.shape[dim]:
            key = self._key(named[0], 0)
            for tensor in named[1:]:
                self._join(tensor, key)
            self._use(x, dim, key)
        return x.clone()

    def statistic(self, func, x, dim=None, *args, **kwargs):
        """Return a mean or variance; over channels it is detached, because it does not tie channels together."""
        result = func(x, *args, **kwargs) if dim is None else func(x, dim, *args, **kwargs)
        dims = [dim] if isinstance(dim, int) else dim or ()
        if not x.requires_grad or not any(self._is_channels(x, d % x.dim()) for d in dims):
            return result
        return tuple(part.detach() for part in result) if isinstance(result, tuple) else result.detach()

    def _is_channels(self, x: torch.Tensor, dim: int) -> bool:
        """Return whether the first and last entry of a dimension depend on different channels of a layer."""
        if x.shape[dim] == 1:
            return False
        leaves = [leaf for leaf in self.seen.leaves if leaf.is_output and any(leaf.keys)]
        reached = []
        for index in (0, x.shape[dim] - 1):
            cotangent = torch.zeros_like(x)
            cotangent.select(dim, index).copy_(positive(x.select(dim, index).shape, x))
            found = torch.autograd.grad(
                x, [leaf.tensor for leaf in leaves], cotangent, retain_graph=True, allow_unused=True)
            reached.append([None if gradient is None else gradient.movedim(channels, 0).flatten(1).ne(0).any(1)
                            for leaf, gradient in zip(leaves, found)
                            for channels, key in enumerate(leaf.keys) if key is not None])
        # If layers that mix tokens are reached as well, the first layer is one that makes channels.
        both = [(first, last) for first, last in zip(*reached)
                if first is not None and last is not None and first.any() and last.any()]
        return bool(both) and not (both[0][0] & both[0][1]).any()

    def _is_parameters_alone(self, weight: torch.Tensor) -> bool:
        outputs = [leaf.tensor for leaf in self.seen.leaves if leaf.is_output]
        if not weight.requires_grad or not outputs:
            return weight.requires_grad
        found = torch.autograd.grad(weight.sum(), outputs, retain_graph=True, allow_unused=True)
        return all(gradient is None for gradient in found)

    def _key(self, tensor: torch.Tensor, dim: int) -> Key:
        """Return the key of a dimension of a parameter, or of a tensor computed from parameters."""
        if id(tensor) in self.names:
            return self.names[id(tensor)], dim
        key = self._new_key(tensor.shape[dim])
        if tensor.requires_grad:
            self.seen.uses.append(Use(tensor, dim, key))
        return key

    def _new_key(self, channels: int) -> Key:
        key = f'#{len(self.seen.channels)}', 0
        self.seen.channels[key] = channels
        return key

    def _join(self, tensor: torch.Tensor | None, key: Key) -> None:
        if tensor is None:
            return
        if id(tensor) in self.names:
            self.seen.tie((self.names[id(tensor)], 0), key)
        elif tensor.requires_grad:
            self.seen.uses.append(Use(tensor, 0, key))

    def _use(self, x: torch.Tensor, dim: int, key: Key) -> None:
        self.seen.used.append(key)
        if x.requires_grad and x.shape[dim] > 1:
            self.seen.uses.append(Use(x.clone(), dim % x.dim(), key))

    def _grouped(self, own: Key, inputs: int, groups: int, weight: torch.Tensor, transposed: bool) -> tuple[Key, Key]:
        """Return the keys of the outputs and inputs of a grouped convolution.

        Groups are kept or dropped whole; a convolution with few groups keeps a part of each group.
        """
        other = self._new_key(inputs if not transposed else weight.shape[1] * groups)
        out, inp = (own, other) if not transposed else (other, own)
        counts = self.seen.channels[out] // groups, self.seen.channels[inp] // groups
        if groups < FEW_GROUPS and min(counts) > 1:
            parts = self._key(weight, 1), self._new_key(counts[0 if not transposed else 1])
            for key, part in zip((other, own), parts):
                channels = np.arange(self.seen.channels[key])
                self.seen.ties.append((key, channels, part, channels % self.seen.channels[part]))
            return out, inp
        for key in (out, inp):
            self.tie_blocks(key, groups)
        starts = np.arange(groups)
        self.seen.ties.append((inp, starts * counts[1], out, starts * counts[0]))
        if isinstance(groups, TrackedInt):
            self.seen.sized.append(Sized(groups, None, 0, inp, counts[1]))
        return out, inp

    def tie_blocks(self, key: Key, blocks: int) -> None:
        channels = np.arange(self.seen.channels[key])
        size = len(channels) // blocks
        self.seen.ties.append((key, channels, key, channels // size * size))


def positive(shape: torch.Size, like: torch.Tensor) -> torch.Tensor:
    """Return random numbers in [0.1, 0.3), so small that even large sums do not reach flat parts of activations."""
    return torch.rand(shape, dtype=like.dtype, device=like.device) * 0.2 + 0.1
