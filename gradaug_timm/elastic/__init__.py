"""Elastic networks: networks that can run as one of their own sub-networks. README.md explains how."""
from ..registry import import_modules
from . import planning
from .blocks import Skippable, register_block
from .cost import multiply_adds
from .network import (
    activate,
    is_elastic,
    make_elastic,
    mark_elastic,
    num_blocks,
    set_statistics,
    statistics,
)
from .parts import Part, PartCache, show_parts
from .plan import Group, Plan, Side
from .planning.prefix import prefix_plan
from .planning.probed import plans_by_probing
from .planning.registry import register_planner
from .planning.resnets import plan_resnet
from .slicing import Elastic
from .standalone import extract
from .subnet import Subnet

__all__ = [
    'Elastic',
    'Group',
    'Part',
    'PartCache',
    'Plan',
    'Side',
    'Skippable',
    'Subnet',
    'activate',
    'extract',
    'is_elastic',
    'make_elastic',
    'mark_elastic',
    'multiply_adds',
    'num_blocks',
    'plan_resnet',
    'plans_by_probing',
    'prefix_plan',
    'register_block',
    'register_planner',
    'set_statistics',
    'show_parts',
    'statistics',
]

import_modules(planning.__name__, planning.__path__)  # planners register themselves
