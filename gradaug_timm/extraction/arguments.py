"""The command line of `python -m gradaug_timm.extract`."""
import os
from dataclasses import dataclass
from typing import Any

from ..cli import file_to_write
from ..evaluation.as_trained import MODE, is_other_data
from ..evaluation.settings import COUNT, NATURAL, SHARE, EvaluationSettings
from ..evaluation.trained import Trained, open_trained
from ..flags import Settings, SettingsParser, keywords, setting, switch
from ..threads import HELP as THREADS

ENDING = '.safetensors'
# Settings of train.py that say which images a network was trained on.
IMAGES_AS_TRAINED = (
    'dataset', 'train_split', 'class_map', 'input_img_mode', 'input_key', 'target_key', 'target_format', 'task')
IMAGES = (
    *IMAGES_AS_TRAINED, 'data_dir', 'num_samples', 'dataset_download', 'dataset_trust_remote_code',
    'recalibration_batches', 'batch_size', 'workers', 'seed')


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings, title='network, by default as the checkpoint says'):
    """The network whose weights a checkpoint holds."""

    model: str | None = setting(None, 'name of the model', flags=('-m',), metavar='NAME')
    num_classes: int | None = setting(None, 'number of classes', type=NATURAL, metavar='N')
    model_kwargs: dict[str, Any] = keywords('more arguments of the model')
    img_size: int | None = setting(None, 'height and width of the images', type=NATURAL, metavar='N')
    use_ema: bool = switch('use the averaged weights if the checkpoint has them')
    threads: int | None = setting(None, THREADS, type=NATURAL, metavar='N')

    def open(self, path: str) -> Trained:
        """Open a checkpoint.

        Raises:
            ValueError: As `open_trained`.
        """
        return open_trained(
            path, model=self.model, num_classes=self.num_classes, model_kwargs=self.model_kwargs or None,
            img_size=self.img_size, use_ema=self.use_ema)


@dataclass(frozen=True, kw_only=True)
class FileSettings(Settings, title='files'):
    """What is read and written."""

    checkpoint: str = setting(
        '', 'checkpoint of train.py, or other weights with --model', positional=True, metavar='CHECKPOINT')
    output: str = setting('', 'file to write', type=file_to_write(ENDING), required=True, metavar=f'FILE{ENDING}')
    overwrite: bool = switch('replace the file if it already exists')


@dataclass(frozen=True, kw_only=True)
class SubnetSettings(Settings, title='sub-network'):
    """The sub-network that is extracted."""

    width: float = setting(1., 'share of the channels to keep (default: 1)', type=SHARE, metavar='W')
    divisor: int | None = setting(
        None, 'round channels to multiples of N (default: as the checkpoint was trained, else 8)', type=NATURAL,
        metavar='N')
    skip_blocks: tuple[int, ...] = setting((), 'indexes of blocks to leave out', type=COUNT, nargs='+', metavar='I')


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Settings, title='recalibration of BatchNorm on training images'):
    """The training images from which BatchNorm statistics are measured."""

    data_dir: str | None = setting(
        None, 'folder of the data; without it and --dataset the full network\'s statistics are kept', metavar='DIR')
    dataset: str | None = setting(
        None, 'data set, as "KIND/NAME" (default: as the checkpoint was trained)', metavar='NAME')
    train_split: str | None = setting(
        None, 'split of the training images (default: as the checkpoint was trained)', metavar='NAME')
    num_samples: int | None = setting(
        None, 'length of an iterable data set that does not know it', type=NATURAL, metavar='N')
    dataset_download: bool = switch('let torch/ and tfds/ data sets download themselves')
    dataset_trust_remote_code: bool = switch('let an hfds/ data set run code from its repository')
    class_map: str | None = setting(
        None, 'file that maps class names to labels (default: as the checkpoint was trained)', metavar='FILE')
    input_key: str | None = setting(
        None, 'field of the data set that holds the images (default: as trained)', metavar='KEY')
    input_img_mode: str | None = setting(None, 'PIL mode of the images (default: as trained)', metavar='MODE')
    target_key: str | None = setting(
        None, 'field of the data set that holds the labels (default: as trained)', metavar='KEY')
    target_format: str | None = setting(
        None, 'form of multi-label targets (default: as trained)', choices=('indices', 'multihot'))
    task: str | None = setting(
        None, 'kind of labels (default: as trained)', choices=('classification', 'multilabel'))
    recalibration_batches: int = setting(
        16, 'number of batches of training images (default: 16)', type=NATURAL, metavar='N')
    batch_size: int = setting(256, 'images per batch (default: 256)', flags=('-b',), type=NATURAL, metavar='N')
    workers: int = setting(4, 'loader processes (default: 4)', flags=('-j',), type=COUNT, metavar='N')
    device: str | None = setting(
        None, 'device (default: the accelerator if there is one, else cpu)', metavar='NAME')
    seed: int = setting(42, 'random seed (default: 42)', type=COUNT, metavar='N')


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings(FileSettings, SubnetSettings, NetworkSettings, ImageSettings):
    """The settings of extracting a sub-network."""

    @property
    def has_images(self) -> bool:
        """Whether training images are given."""
        return self.data_dir is not None or self.dataset is not None

    def images(self, trained: Trained) -> EvaluationSettings:
        """Return how training images are read: as in training, except for what is given."""
        known = {name: trained.settings[name] for name in IMAGES_AS_TRAINED
                 if trained.settings.get(name) is not None}
        given = {name: getattr(self, name) for name in IMAGES if getattr(self, name) is not None}
        if is_other_data(given.get('dataset', known.get('dataset', '')), known):  # with other fields and classes
            known = {name: value for name, value in known.items() if name == MODE}
        return EvaluationSettings(**{**known, **given})


def build_parser() -> SettingsParser:
    """Return a fresh parser of the command."""
    return SettingsParser(
        ExtractionSettings,
        resolve,
        prog='python -m gradaug_timm.extract',
        description='Writes a sub-network of a trained network as a file, which gradaug_timm.load_extracted opens.',
    )


def resolve(settings: ExtractionSettings) -> ExtractionSettings:
    """Return the settings, if nothing would be overwritten.

    Raises:
        ValueError: The output already exists.
    """
    if os.path.exists(settings.output) and not settings.overwrite:
        raise ValueError(f'--output {settings.output} already exists; use --overwrite to replace it')
    return settings
