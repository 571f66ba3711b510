"""Residual blocks that can be left out: only their shortcut runs."""
import copy
from collections.abc import Callable

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from ..registry import Registry
from .slicing import Elastic, elastic_class

SKIP = 'skip'  # among what a block keeps: nothing but its shortcut


class Skippable(Elastic):
    """A residual block that runs as its shortcut alone while a sub-network without it is active.

    In training it also does so at random where its `survival` probability is below 1 (stochastic depth); one draw holds
    for the batch. A subclass, or the plain block, has `shortcut(x)`, and `dense_shortcut()`: the same as a module.
    """
    survival: float = 1.

    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if SKIP in self.kept:
            return self.shortcut(x)
        if self.training and self.survival < 1 and torch.rand((), device='cpu') >= self.survival:
            return _WithZeroGradients.apply(self.shortcut(x), *self.parameters())
        return super().forward(x, *args, **kwargs)


class SkippableResidual(Skippable):
    """A block whose shortcut is its input."""

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def dense_shortcut(self) -> nn.Module:
        return Shortcut()


class Shortcut(nn.Module):
    """Stands for a block that was left out: gives its first argument back."""

    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        return x


class _WithZeroGradients(torch.autograd.Function):
    """A block's output that parameters had no part in; they get zeros as gradients, for which DDP would wait."""

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
    """Return a class decorator: modules of these classes are blocks that random depth may skip, in the decorated way.

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
    """A block of timm's ResNet: activation(branch + shortcut); ReLU changes nothing of an input that it made."""

    @property
    def _last_act(self) -> nn.Module:
        return self.act3 if isinstance(self, Bottleneck) else self.act2

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        output = x if self.downsample is None else self.downsample(x)
        if output is not x:
            return self._last_act(output)
        return x if isinstance(self._last_act, nn.ReLU) else self._last_act(x.clone())  # it may work in place

    def dense_shortcut(self) -> nn.Module:
        act = copy.copy(self._last_act)
        act.inplace = False
        if self.downsample is not None:
            return nn.Sequential(self.downsample, act)
        return Shortcut() if isinstance(act, nn.ReLU) else act


def skippable_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network, elastic already or not, that can be left out; in order."""
    return [module for module in network.modules() if type(module) in BLOCKS or isinstance(module, Skippable)]


def drop_at_random(block: nn.Module, *, survival: float) -> None:
    """Lets a block run with probability `survival` in training, else its shortcut alone; its class is swapped."""
    if not isinstance(block, Skippable):
        block.__class__ = elastic_class(type(block), (), BLOCKS[type(block)])
    block.survival = survival
