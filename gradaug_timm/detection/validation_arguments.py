"""The command line of validating detectors."""
import importlib.util
from dataclasses import dataclass

from ..cli import file_to_write
from ..flags import Settings, SettingsParser, needs, setting, switch
from ..threads import HELP as THREADS
from ..training.arguments.values import COUNT, NATURAL, PROBABILITY


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings, title='data'):
    """Detector and images."""

    checkpoint: str = setting(
        '', 'checkpoint or run folder of gradaug_timm.detection.train', positional=True, metavar='CHECKPOINT')
    data_dir: str = setting(
        '', 'folder with annotations/instances_SPLIT.json and images in SPLIT/', required=True, metavar='DIR')
    split: str = setting('val2017', 'split to validate on (default: val2017)', metavar='NAME')
    strict_annotations: bool = switch(
        'reject annotation files with objects or images that can\'t be used, such as boxes without area, which are '
        'otherwise left out and named')
    batch_size: int = setting(1, 'images per batch (default: 1)', flags=('-b',), type=NATURAL, metavar='N')
    workers: int = setting(2, 'loader processes (default: 2)', flags=('-j',), type=COUNT, metavar='N')


@dataclass(frozen=True, kw_only=True)
class ExecutionSettings(Settings, title='execution'):
    """Which weights are used, and where."""

    raw_weights: bool = switch('use the trained weights even if the checkpoint has averaged ones')
    device: str | None = setting(None, 'device (default: the accelerator if there is one, else cpu)', metavar='NAME')
    threads: int | None = setting(None, THREADS, type=NATURAL, metavar='N')


@dataclass(frozen=True, kw_only=True)
class ResultSettings(Settings, title='results'):
    """Files of results."""

    results_file: str | None = setting(
        None, 'file to write the figures to, .json or .csv', type=file_to_write(), metavar='FILE')
    predictions_file: str | None = setting(
        None, 'file to write the detections to, in COCO\'s format of results', type=file_to_write('.json'),
        metavar='FILE')


@dataclass(frozen=True, kw_only=True)
class PictureSettings(Settings, title='pictures'):
    """Pictures of what is found."""

    pictures: str | None = setting(None, 'folder to write pictures of the detections to', metavar='DIR')
    picture_images: int = setting(
        8, 'number of pictures (default: 8)', type=NATURAL, metavar='N', idle=needs('pictures'))
    score: float = setting(
        0.5, 'lowest score of a detection that is drawn (default: 0.5)', type=PROBABILITY, metavar='S',
        idle=needs('pictures'))


@dataclass(frozen=True, kw_only=True)
class DetectionValidationSettings(DataSettings, ExecutionSettings, ResultSettings, PictureSettings):
    """The settings of validating a detector."""


def build_parser() -> SettingsParser:
    """Return a fresh parser."""
    return SettingsParser(
        DetectionValidationSettings,
        resolve,
        prog='python -m gradaug_timm.detection.validate',
        description='Computes COCO\'s figures of a detector, in percent.',
    )


def resolve(settings: DetectionValidationSettings) -> DetectionValidationSettings:
    """Return the settings, if the figures can be computed and written.

    Raises:
        ValueError: They can't; the message is one line.
    """
    if settings.results_file and not settings.results_file.endswith(('.csv', '.json')):
        raise ValueError(f'--results-file {settings.results_file} must end in .csv or .json')
    if importlib.util.find_spec('faster_coco_eval') is None:
        raise ValueError('detection needs the package faster-coco-eval: pip install "gradaug_timm[detection]"')
    return settings
