"""Evaluation of networks, checkpoints and sub-networks: what validate.py calls."""
from .recalibration import recalibrate, recalibrate_all
from .run import validate

__all__ = ['recalibrate', 'recalibrate_all', 'validate']
