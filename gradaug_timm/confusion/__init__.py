"""Confusion matrices: how often images of each class are taken for each class."""
from .counts import ConfusionCounts
from .files import in_folder, with_suffix, write_confusion
from .settings import ConfusionSettings, check_confusion, confusion_problems

__all__ = [
    'ConfusionCounts', 'ConfusionSettings', 'check_confusion', 'confusion_problems', 'in_folder',
    'with_suffix', 'write_confusion',
]
