"""Networks that know how to run as one of their own sub-networks."""
from .blocks import Skippable, register_block
from .cost import multiply_adds
from .extract import extract
from .layers import Elastic, Kept, count, register_layer
from .network import (
    PLANNERS,
    activate,
    is_elastic,
    make_elastic,
    mark_elastic,
    num_blocks,
    set_statistics,
    statistics,
)
from .plan import Group, Plan, Side, prefix_plan
from .planning import block_names, plan_by_probing
from .resnets import plan_resnet
from .subnet import Subnet

__all__ = [
    'PLANNERS', 'Elastic', 'Group', 'Kept', 'Plan', 'Side', 'Skippable', 'Subnet', 'activate', 'block_names', 'count',
    'extract', 'is_elastic', 'make_elastic', 'mark_elastic', 'multiply_adds', 'num_blocks', 'plan_by_probing',
    'plan_resnet', 'prefix_plan', 'register_block', 'register_layer', 'set_statistics', 'statistics',
]
