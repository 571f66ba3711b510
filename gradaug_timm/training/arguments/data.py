"""Settings of data sets and of the model's input."""
from dataclasses import dataclass

from timm.data.readers.targets import TARGET_FORMATS

from ...flags import Role, Settings, needs, setting, switch
from .conditions import FROM_THE_HUB, STREAMED
from .values import INTERPOLATIONS, NATURAL, NUMBER, POSITIVE, SHARE


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings, title='data'):
    """The source of images and labels."""

    data: str | None = setting(
        None, 'root folder of the data; --data-dir is the newer spelling', positional=True, nargs='?', metavar='DIR',
        role=Role.PLACE)
    data_dir: str | None = setting(None, 'root folder of the data', metavar='DIR', role=Role.PLACE)
    dataset: str = setting(
        '', 'data set as KIND/NAME as in timm, gradaug/mnist5k or gradaug/stl10 (default: image folders)',
        flags=('-d',), metavar='NAME')
    train_split: str = setting('train', 'training split (default: train)', metavar='NAME')
    val_split: str = setting(
        'validation', 'validation split, "" for none (default: validation)', metavar='NAME', role=Role.JUDGED,
        null='')
    labels_per_class: int | None = setting(
        None, 'train on K images of each class, drawn with --seed', type=NATURAL, metavar='K')
    train_fraction: float | None = setting(
        None, 'train on this share of each class, drawn with --seed', type=SHARE, metavar='F')
    train_num_samples: int | None = setting(
        None, 'images in an iterable training split', type=NATURAL, metavar='N', idle=STREAMED)
    val_num_samples: int | None = setting(
        None, 'images in an iterable validation split', type=NATURAL, metavar='N', role=Role.JUDGED,
        idle=(needs('val_split'), STREAMED))
    dataset_download: bool = switch(
        'download torch/ and tfds/ data sets if they are missing', role=Role.PLACE, idle=(needs('dataset'),))
    dataset_trust_remote_code: bool = switch(
        'allow hfds/ data sets to run code from their repository', role=Role.PLACE, idle=FROM_THE_HUB)
    class_map: str = setting('', 'file that maps class names to labels', metavar='FILE')
    input_img_mode: str | None = setting(
        None, 'PIL mode of images (default: RGB, or L with one channel)', metavar='MODE')
    input_key: str | None = setting(None, 'field of the data set that holds images', metavar='KEY')
    target_key: str | None = setting(
        None, 'field of the data set that holds labels; several, separated by commas, for --task multilabel',
        metavar='KEY')
    target_format: str | None = setting(
        None, 'form of multi-label targets: lists of classes, or vectors of 0 and 1', choices=TARGET_FORMATS)


@dataclass(frozen=True, kw_only=True)
class InputSettings(Settings, title='input'):
    """The images that the network gets."""

    img_size: int | None = setting(
        None, 'height and width of images (default: the size of the model)', type=NATURAL, metavar='N')
    in_chans: int | None = setting(None, 'channels of images (default: 3)', type=NATURAL, metavar='N')
    input_size: tuple[int, ...] | None = setting(
        None, 'channels, height and width of images', nargs=3, type=NATURAL, metavar=('C', 'H', 'W'))
    crop_pct: float | None = setting(
        None, 'share of the resized image that the validation crop keeps', type=POSITIVE, metavar='PCT',
        role=Role.JUDGED)
    mean: tuple[float, ...] | None = setting(
        None, 'mean of each channel, for pixels in 0 to 1', type=NUMBER, nargs='+', metavar='MEAN')
    std: tuple[float, ...] | None = setting(
        None, 'standard deviation of each channel, for pixels in 0 to 1', type=POSITIVE, nargs='+', metavar='STD')
    interpolation: str = setting(
        '', 'filter for resizing images (default: the filter of the model)', choices=INTERPOLATIONS)
    batch_size: int = setting(
        128, 'images per process and batch (default: 128)', flags=('-b',), type=NATURAL, metavar='N')
    keep_last_batch: bool = switch('also train on the last, incomplete batch of an epoch')
    validation_batch_size: int | None = setting(
        None, 'images per process and validation batch (default: --batch-size)', flags=('-vb',), type=NATURAL,
        metavar='N', role=Role.PLACE, idle=(needs('val_split'),))
