"""Residual blocks that can be skipped: only the shortcut runs."""
import copy
from collections.abc import Callable

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from ..registry import Registry
from .slicing import Elastic, elastic_class

SKIP = 'skip'  # key in a block's `kept`: only the shortcut runs


class Skippable(Elastic):
    """Residual block that runs its shortcut alone while a sub-network that skips the block is active.

    With a `survival` probability below 1 the block is also skipped at random in training (stochastic depth), with one
    draw for the whole batch. A subclass or the plain block defines `shortcut(x)`; a subclass also defines
    `dense_shortcut()`, which returns the shortcut as a module.
    """
    survival: float = 1.

    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if SKIP in self.kept:
            return self.shortcut(x)
        if self.training and self.survival < 1 and torch.rand((), device='cpu') >= self.survival:
            return _WithZeroGradients.apply(self.shortcut(x), *self.parameters())
        return super().forward(x, *args, **kwargs)


class SkippableResidual(Skippable):
    """Skippable block whose shortcut is the identity."""

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def dense_shortcut(self) -> nn.Module:
        return Shortcut()


class Shortcut(nn.Module):
    """Replacement of a skipped block: returns the first argument unchanged."""

    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        return x


class _WithZeroGradients(torch.autograd.Function):
    """Output of a skipped block; gives the block's parameters zero gradients, because DDP waits for every gradient."""

    @staticmethod
    def forward(ctx, output, *parameters):
        ctx.parameters = parameters
        return output.view_as(output)

    @staticmethod
    def backward(ctx, grad_output):
        asked = zip(ctx.parameters, ctx.needs_input_grad[1:])
        return grad_output, *(torch.zeros_like(parameter) if needed else None for parameter, needed in asked)


BLOCKS: Registry[type[nn.Module], type[Skippable]] = Registry('way to skip')


def register_block(*plain: type[nn.Module]) -> Callable[[type[Skippable]], type[Skippable]]:
    """Return a class decorator: random depth may skip blocks of these classes, as the decorated class defines.

    Args:
        *plain: Classes of residual blocks, as a network has them before it is elastic.

    Raises:
        ValueError: One of the classes is registered already.
    """
    def register(mixin: type[Skippable]) -> type[Skippable]:
        for cls in plain:
            BLOCKS.add(cls, mixin)
        return mixin
    return register


@register_block(BasicBlock, Bottleneck)
class SkippableResNetBlock(Skippable):
    """Block of timm's ResNet: activation(branch + shortcut). An identity shortcut needs no second ReLU."""

    @property
    def _last_act(self) -> nn.Module:
        return self.act3 if isinstance(self, Bottleneck) else self.act2

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        output = x if self.downsample is None else self.downsample(x)
        if output is not x:
            return self._last_act(output)
        return x if isinstance(self._last_act, nn.ReLU) else self._last_act(x.clone())  # the activation may be in place

    def dense_shortcut(self) -> nn.Module:
        act = copy.copy(self._last_act)
        act.inplace = False
        if self.downsample is not None:
            return nn.Sequential(self.downsample, act)
        return Shortcut() if isinstance(act, nn.ReLU) else act


def skippable_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network that can be skipped, in order; the network may be elastic or not."""
    return [module for module in network.modules() if type(module) in BLOCKS or isinstance(module, Skippable)]


def drop_at_random(block: nn.Module, *, survival: float) -> None:
    """Swap the class of a block so that in training it runs with probability `survival`, otherwise the shortcut."""
    if not isinstance(block, Skippable):
        block.__class__ = elastic_class(type(block), (), BLOCKS[type(block)])
    block.survival = survival
