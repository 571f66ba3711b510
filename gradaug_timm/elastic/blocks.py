"""Residual blocks that can be left out: only their shortcut runs."""
import copy

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from .layers import Elastic


class Skippable(Elastic):
    """A residual block that runs as its shortcut alone while a sub-network without it is active.

    In training it also does so at random where its `survival` probability is below 1 (stochastic depth); one draw holds
    for the batch. A subclass, or the plain block, has `shortcut(x)` and `dense_shortcut()`, the same as a module of its
    own.
    """
    survival: float = 1.

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kept is not None:
            return self.shortcut(x)
        if self.training and self.survival < 1 and torch.rand((), device='cpu') >= self.survival:
            return _WithZeroGradients.apply(self.shortcut(x), *self.parameters())
        return super().forward(x)


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


class _SkippableResNetBlock(Skippable):
    """A block of timm's ResNet: activation(branch + shortcut); ReLU changes nothing of an input that it made."""

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
        return nn.Identity() if isinstance(act, nn.ReLU) else act


class ElasticBasicBlock(_SkippableResNetBlock, BasicBlock):
    plain = BasicBlock

    @property
    def _last_act(self) -> nn.Module:
        return self.act2


class ElasticBottleneck(_SkippableResNetBlock, Bottleneck):
    plain = Bottleneck

    @property
    def _last_act(self) -> nn.Module:
        return self.act3


BLOCKS: dict[type[nn.Module], type[Skippable]] = {BasicBlock: ElasticBasicBlock, Bottleneck: ElasticBottleneck}


def register_block(elastic: type[Skippable]) -> type[Skippable]:
    """Class decorator: modules of class `elastic.plain` are blocks that random depth may skip."""
    BLOCKS[elastic.plain] = elastic
    return elastic


def skippable_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network, elastic already or not, that can be left out; in order."""
    return [module for module in network.modules() if type(module) in BLOCKS or isinstance(module, Skippable)]


def drop_at_random(block: nn.Module, *, survival: float) -> None:
    """Lets a block run with probability `survival` in training, else its shortcut alone; its class is swapped."""
    if not isinstance(block, Skippable):
        block.__class__ = BLOCKS[type(block)]
        vars(block)['kept'] = None
    block.survival = survival
