"""Whether the networks of timm can be trained with GradAug: what `python -m gradaug_timm.coverage` checks and lists."""
from .checks import Finding, Misfit, check_model, check_subnets
from .table import table

__all__ = ['Finding', 'Misfit', 'check_model', 'check_subnets', 'table']
