"""Evaluation of networks, checkpoints and sub-networks: what validate.py calls."""
from .main import main
from .recalibration import recalibrate, recalibrate_all
from .run import validate

__all__ = ['main', 'recalibrate', 'recalibrate_all', 'validate']
