"""Evaluation of networks, checkpoints and sub-networks: what validate.py calls."""
from .api import evaluate
from .recalibration import random_batches, recalibrate, recalibrate_all
from .run import validate
from .settings import EvaluationSettings
from .trained import Trained, open_trained

__all__ = [
    'EvaluationSettings', 'Trained', 'evaluate', 'open_trained', 'random_batches', 'recalibrate', 'recalibrate_all',
    'validate',
]
