"""GradAug for timm: networks regularised by training their own random sub-networks.

Importing the package registers `gradaug_<name>` and the CIFAR networks with timm.
"""
import gc
import os

from .started import is_command
from .threads import wait_passively

if is_command():
    wait_passively(os.environ)
    gc.disable()  # until the imports below are done: a seventh of their time is spent on looking for garbage
# Set before oneDNN reads it. The default, 1,024 compiled layers, is too small for all pairs of width and size.
os.environ.setdefault('ONEDNN_PRIMITIVE_CACHE_CAPACITY', '16384')

from . import models
from .elastic import Subnet, activate, extract, make_elastic, multiply_adds, register_planner
from .evaluation import EvaluationSettings, Trained, evaluate, open_trained, random_batches, recalibrate
from .extraction import load_extracted, save_extracted
from .models import CifarResNet, PyramidNet, WideResNet
from .regularizers import register_regularizer
from .task.gradaug import GradAugTask, MultiLabelGradAugTask
from .task.settings import GradAugSettings
from .task.transforms import InputTransformation, register_transform
from .training.api import TrainResult, train
from .training.arguments import TrainSettings
from .training.callbacks import Callback
from .training.outputs.loggers import Logger, register_logger
from .version import __version__ as __version__

if is_command():
    gc.freeze()  # what was imported stays, so that later collections need not look at it
    gc.enable()

__all__ = [
    'Callback', 'CifarResNet', 'EvaluationSettings', 'GradAugSettings', 'GradAugTask', 'InputTransformation', 'Logger',
    'MultiLabelGradAugTask', 'PyramidNet', 'Subnet', 'TrainResult', 'TrainSettings', 'Trained', 'WideResNet',
    'activate', 'evaluate', 'extract', 'load_extracted', 'make_elastic', 'models', 'multiply_adds', 'open_trained',
    'random_batches', 'recalibrate', 'register_logger', 'register_planner', 'register_regularizer',
    'register_transform', 'save_extracted', 'train',
]
