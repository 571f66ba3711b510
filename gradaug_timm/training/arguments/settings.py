"""The settings of a run: one frozen, validated object for flags, YAML and Python."""
from dataclasses import dataclass
from typing import Any

from ...confusion import ConfusionSettings
from ...flags import derived
from .augmentation import AugmentationSettings, AveragingSettings, MixingSettings, SizeScheduleSettings
from .data import DataSettings, InputSettings
from .gradaug import SubnetSettings
from .model import DistillationSettings, ModelSettings, NormSettings
from .optimization import LossSettings, OptimizerSettings, ScheduleSettings
from .regularizers import RegularizerSettings
from .run import DeviceSettings, ReportSettings, RunSettings


@dataclass(frozen=True, kw_only=True)
class LoopSettings(
        SubnetSettings, OptimizerSettings, ScheduleSettings, AveragingSettings, DeviceSettings, RunSettings):
    """The settings of the training loop, checkpoints and loggers, for classification and detection.

    Args:
        model: The name of the network.
        model_kwargs: Further arguments of the network.
        num_classes: The number of classes; filled in later.
        batch_size: Images per process and batch.
        origins: Where each setting that differs from its default was set: a YAML file, the command line or Python.
        notes: Lines for the log, about flags of older versions of timm.
    """

    model: str = derived('')
    model_kwargs: dict[str, Any] = derived({})
    num_classes: int | None = derived(None)
    batch_size: int = derived(0)
    origins: dict[str, str] = derived({})
    notes: tuple[str, ...] = derived(())


@dataclass(frozen=True, kw_only=True)
class TrainSettings(
        DataSettings, InputSettings, ModelSettings, NormSettings, RegularizerSettings, LossSettings,
        AugmentationSettings, MixingSettings, SizeScheduleSettings, LoopSettings, ReportSettings, DistillationSettings,
        ConfusionSettings):
    """The settings of training a classifier: the flags of timm's train.py, and of GradAug.

    Each setting has the name of the flag, with `_` for `-`; docs/reference.md lists all of them.

    Raises:
        ValueError: One or more values are not allowed; the message names all of them.

    Example:
        >>> from gradaug_timm import TrainSettings
        >>> settings = TrainSettings(model='gradaug_resnet18', epochs=10)
        >>> settings.opt, settings.epochs
        ('sgd', 10)
    """
