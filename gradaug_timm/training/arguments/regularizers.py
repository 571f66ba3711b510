"""Settings of regularisers that are compared with GradAug and that timm lacks or implements differently."""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...cli import NamedKeywords, ranged
from ...flags import Role, Settings, setting
from .values import NATURAL, NUMBER, SHARE


@dataclass(frozen=True, kw_only=True)
class RegularizerSettings(Settings, title='regularisers, as published', role=Role.COMPARED):
    """ShakeDrop, stochastic depth and DropBlock as in their papers."""

    shake_drop: float | None = setting(
        None, 'ShakeDrop: probability that the last residual branch is not scaled, linear from 1 at the first',
        type=SHARE, metavar='P')
    shake_drop_alpha: tuple[float, ...] | None = setting(
        None, 'ShakeDrop: range of the factors in the forward pass (default: -1 1)', type=NUMBER, nargs=2,
        metavar=('LO', 'HI'))
    shake_drop_beta: tuple[float, ...] | None = setting(
        None, 'ShakeDrop: range of the factors in the backward pass (default: 0 1)', type=NUMBER, nargs=2,
        metavar=('LO', 'HI'))
    shake_drop_level: str | None = setting(
        None, 'ShakeDrop: what shares a factor (default: pixel)', choices=('batch', 'image', 'channel', 'pixel'))
    stoch_depth: float | None = setting(
        None, 'stochastic depth of whole batches: probability that the last block is kept, linear from 1 at the first',
        type=SHARE, metavar='P')
    paper_drop_block: float | None = setting(
        None, 'DropBlock as published: rate after every convolution and shortcut of the last two stages',
        type=ranged(float, above=0, below=1), metavar='RATE')
    paper_drop_block_schedule: str | None = setting(
        None, 'DropBlock as published: raise the rate from 0 over all updates, or keep it constant (default: linear)',
        choices=('linear', 'constant'))
    paper_drop_block_size: int | None = setting(
        None, 'DropBlock as published: side of the blocks (default: 7)', type=NATURAL, metavar='N')
    regularizer: Mapping[str, Any] = setting(
        {}, 'another regulariser, registered by a module of --device-modules, with its settings; may be repeated',
        nargs='+', action=NamedKeywords, metavar=('NAME', 'KEY=VALUE'))
