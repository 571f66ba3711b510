"""Residual blocks, found in a probed forward pass."""
import torch
from torch import nn

from ..blocks import BLOCKS
from .probe import positive
from .trace import Trace


class BlockWatch:
    """Finder of modules whose output is the input plus the output of their layers.

    Because the outputs of layers are constants, the derivative of such a module's output by the input is the identity.

    Args:
        model: The probed network; hooks are added to its modules.
        seen: The record of the forward pass.
    """

    def __init__(self, model: nn.Module, seen: Trace):
        self.model = model
        self.seen = seen
        self.calls: dict[str, tuple[int, int]] = {}  # name of a residual module -> range of its layers
        self._started: dict[str, int] = {}
        for name, module in model.named_modules():
            if name and next(module.parameters(), None) is not None:
                module.register_forward_pre_hook(lambda _, args, name=name: self._start(name))
                module.register_forward_hook(lambda _, args, output, name=name: self._check(name, args, output))

    def blocks(self) -> tuple[str, ...]:
        """Return the names, in order, of the largest residual modules that are not sequences of residual modules."""
        found: list[str] = []
        for name, module in self.model.named_modules():
            if any(name.startswith(f'{block}.') for block in found):
                continue
            if type(module) in BLOCKS or (name in self.calls and not self._is_sequence(name)):
                found.append(name)
        return tuple(found)

    def _is_sequence(self, name: str) -> bool:
        covered = {layer for other, (start, stop) in self.calls.items() if other.startswith(f'{name}.')
                   for layer in range(start, stop)}
        return covered >= set(range(*self.calls[name]))

    def _start(self, name: str) -> None:
        self._started[name] = self.seen.layers

    def _check(self, name: str, args: tuple, output) -> None:
        start, stop = self._started[name], self.seen.layers
        if start == stop or not args or not _alike(args[0], output):
            return
        cotangent = positive(output.shape, output)
        found, = torch.autograd.grad(output, args[0], cotangent, retain_graph=True, allow_unused=True)
        if found is not None and torch.equal(found, cotangent):
            self.calls[name] = start, stop


def _alike(x, output) -> bool:
    return isinstance(x, torch.Tensor) and isinstance(output, torch.Tensor) and (
        x.requires_grad and output.requires_grad and x.shape == output.shape)
