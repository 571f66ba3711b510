"""Settings of data sets and of the model's input."""
from dataclasses import dataclass

from timm.data.readers.targets import TARGET_FORMATS

from ...flags import Role, Settings, needs, setting, switch
from .values import INTERPOLATIONS, NATURAL, NUMBER, POSITIVE, SHARE


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings, title='data'):
    """Where images and labels come from."""

    data: str | None = setting(
        None, 'root of the data; --data-dir is the newer spelling', positional=True, nargs='?', metavar='DIR',
        role=Role.PLACE)
    data_dir: str | None = setting(None, 'root of the data', metavar='DIR', role=Role.PLACE)
    dataset: str = setting(
        '', 'KIND/NAME as in timm, gradaug/mnist5k or gradaug/stl10; none: image folders', metavar='NAME')
    train_split: str = setting('train', 'split to train on (default: train)', metavar='NAME')
    val_split: str = setting('validation', 'split to validate on, "" for none', metavar='NAME', role=Role.JUDGED)
    labels_per_class: int | None = setting(
        None, 'train on K images of each class, drawn by --seed', type=NATURAL, metavar='K')
    train_fraction: float | None = setting(
        None, 'train on this share of each class, drawn by --seed', type=SHARE, metavar='F')
    train_num_samples: int | None = setting(None, 'length of an iterable training split', type=NATURAL, metavar='N')
    val_num_samples: int | None = setting(
        None, 'length of an iterable validation split', type=NATURAL, metavar='N', role=Role.JUDGED,
        idle=(needs('val_split'),))
    dataset_download: bool = switch('let torch/ and tfds/ data sets download themselves', role=Role.PLACE)
    dataset_trust_remote_code: bool = switch('let hfds/ data sets run code of their repository', role=Role.PLACE)
    class_map: str = setting('', 'file that maps class names to labels', metavar='FILE')
    input_img_mode: str | None = setting(
        None, 'PIL mode of the images (default: RGB, L for one channel)', metavar='MODE')
    input_key: str | None = setting(None, 'field of the images', metavar='KEY')
    target_key: str | None = setting(
        None, 'field of the labels; comma-separated fields for --task multilabel', metavar='KEY')
    target_format: str | None = setting(
        None, 'labels of --task multilabel: classes, or 0/1 vectors', choices=TARGET_FORMATS)


@dataclass(frozen=True, kw_only=True)
class InputSettings(Settings, title='input'):
    """What the network gets to see."""

    img_size: int | None = setting(None, 'height and width (default: the model\'s)', type=NATURAL, metavar='N')
    in_chans: int | None = setting(None, 'channels (default: 3)', type=NATURAL, metavar='N')
    input_size: tuple[int, ...] | None = setting(
        None, 'channels, height and width', nargs=3, type=NATURAL, metavar=('C', 'H', 'W'))
    crop_pct: float | None = setting(
        None, 'share that the validation crop keeps', type=POSITIVE, metavar='PCT', role=Role.JUDGED)
    mean: tuple[float, ...] | None = setting(
        None, 'mean of the channels, in 0..1', type=NUMBER, nargs='+', metavar='MEAN')
    std: tuple[float, ...] | None = setting(
        None, 'standard deviation of the channels', type=POSITIVE, nargs='+', metavar='STD')
    interpolation: str = setting('', 'resizing filter (default: the model\'s)', choices=INTERPOLATIONS)
    batch_size: int = setting(128, 'images a process and step (default: 128)', flags=('-b',), type=NATURAL, metavar='N')
    keep_last_batch: bool = switch('train on the last, incomplete batch of an epoch too')
    validation_batch_size: int | None = setting(
        None, 'images a validation step', flags=('-vb',), type=NATURAL, metavar='N', role=Role.PLACE,
        idle=(needs('val_split'),))
