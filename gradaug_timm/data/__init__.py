"""Data sets, image transforms and loaders shared by training and evaluation."""
from .augmentations import PadCrop, PCALighting, insert_augmentations
from .checks import check_labels, check_shards, check_sizes, match_validation, warn_of_unused_classes
from .class_names import class_names
from .device_loader import DeviceLoader
from .digits import DIGITS, Digits
from .factory import check_splits, create_dataset
from .held import HeldImages, hold
from .image_sets import StreamedImages
from .keyed import key_loader, leave_out_unreadable, replace_unreadable
from .modes import check_channels, input_mode
from .readable import ReadableDataset, ReadRows, report_left_out
from .subset import class_balanced, stratified

__all__ = [
    'DIGITS', 'DeviceLoader', 'Digits', 'HeldImages', 'PCALighting', 'PadCrop', 'ReadRows', 'ReadableDataset',
    'StreamedImages', 'check_channels', 'check_labels', 'check_shards', 'check_sizes', 'check_splits',
    'class_balanced', 'class_names', 'create_dataset', 'hold', 'input_mode', 'insert_augmentations', 'key_loader',
    'leave_out_unreadable', 'match_validation', 'replace_unreadable', 'report_left_out', 'stratified',
    'warn_of_unused_classes',
]
