"""Data sets and image transforms shared by training and evaluation."""
from .augmentations import PCALighting, ReflectPadCrop, insert_augmentations
from .checks import check_classes, check_labels, check_sizes, warn_of_unused_classes
from .digits import DIGITS, Digits
from .factory import check_splits, create_dataset, is_tar
from .subset import class_balanced

__all__ = [
    'DIGITS', 'Digits', 'PCALighting', 'ReflectPadCrop', 'check_classes', 'check_labels', 'check_sizes',
    'check_splits', 'class_balanced', 'create_dataset', 'insert_augmentations', 'is_tar', 'warn_of_unused_classes',
]
