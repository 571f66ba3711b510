"""Planner of networks with timm's bottlenecks: counts inner channels as the paper does."""
from collections.abc import Iterator
from dataclasses import replace

from timm.models.resnet import Bottleneck
from torch import nn

from ..plan import FIXED, Plan
from .probed import plans_by_probing
from .registry import register_planner


@register_planner(Bottleneck)
def plan_resnet(model: nn.Module) -> Iterator[Plan]:
    """Yield the probed plans, with the channels of the stem and inside bottlenecks counted by expansion (Group)."""
    for plan in plans_by_probing(model):
        yield _counted(plan, model)


def _counted(plan: Plan, model: nn.Module) -> Plan:
    inner = [name for block in plan.blocks if isinstance(model.get_submodule(block), Bottleneck)
             for name in (f'{block}.conv1', f'{block}.conv2')]
    stem = f'{plan.blocks[0].rpartition("layer1")[0]}conv1'
    sides = [plan.tensors[f'{name}.weight'][0] for name in [stem, *inner] if f'{name}.weight' in plan.tensors]
    counted = {int(side.group[0]) for side in sides if side is not None} - {FIXED}
    groups = [replace(group, expansion=Bottleneck.expansion) if index in counted else group
              for index, group in enumerate(plan.groups)]
    return replace(plan, groups=tuple(groups))
