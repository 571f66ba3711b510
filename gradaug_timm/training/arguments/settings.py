"""The settings of a run: one frozen, validated object, whether they come from flags, YAML or Python."""
from dataclasses import dataclass
from typing import Any

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
    """What the training loop, checkpoints and loggers read, whatever is trained.

    Args:
        model: The network's name.
        model_kwargs: Its arguments.
        num_classes: Its outputs; filled in.
        batch_size: Images a process and step.
        origins: Where each setting that isn't at its default was set, of a dry run: a YAML file or the command line.
    """

    model: str = derived('')
    model_kwargs: dict[str, Any] = derived({})
    num_classes: int | None = derived(None)
    batch_size: int = derived(0)
    origins: dict[str, str] = derived({})


@dataclass(frozen=True, kw_only=True)
class TrainSettings(
        DataSettings, InputSettings, ModelSettings, NormSettings, RegularizerSettings, LossSettings,
        AugmentationSettings, MixingSettings, SizeScheduleSettings, LoopSettings, ReportSettings, DistillationSettings):
    """The settings of training a classifier: those of timm's train.py, and of GradAug.

    Each has the name of the flag, with `_` for `-`; docs/reference.md lists them all.

    Raises:
        ValueError: Values aren't allowed; says all of them.

    Example:
        >>> from gradaug_timm import TrainSettings
        >>> settings = TrainSettings(model='gradaug_resnet18', epochs=10)
        >>> settings.opt, settings.epochs
        ('sgd', 10)
    """
