"""`python -m gradaug_timm.coverage` checks and lists which networks of timm can be trained with GradAug."""
from .checks import Finding, Misfit, check_model, check_subnets
from .table import table

__all__ = ['Finding', 'Misfit', 'check_model', 'check_subnets', 'table']
