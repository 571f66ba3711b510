"""Residual blocks that can be left out: only their shortcut runs."""
import copy

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from .layers import Elastic


class Skippable(Elastic):
    """A residual block that runs as its shortcut alone while a sub-network without it is active.

    A subclass, or the plain block, has `shortcut(x)` and `dense_shortcut()`, the same as a module of its own.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if self.kept is None else self.shortcut(x)


class _SkippableResNetBlock(Skippable):
    """A block of timm's ResNet: activation(branch + shortcut); ReLU changes nothing of an input that it made."""

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        if self.downsample is not None:
            return self._last_act(self.downsample(x))
        return x if isinstance(self._last_act, nn.ReLU) else self._last_act(x.clone())  # it may work in place

    def dense_shortcut(self) -> nn.Module:
        if self.downsample is not None:
            return nn.Sequential(self.downsample, self._last_act)
        if isinstance(self._last_act, nn.ReLU):
            return nn.Identity()
        act = copy.copy(self._last_act)
        act.inplace = False
        return act


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
