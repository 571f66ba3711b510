"""The command line of `python -m gradaug_timm.explain`."""
import importlib.util
import os
from dataclasses import dataclass

from ..cli import file_to_write
from ..evaluation.settings import NATURAL, SHARE
from ..extraction.arguments import NetworkSettings
from ..flags import Settings, SettingsParser, needs, setting, switch
from .maps import METHODS


@dataclass(frozen=True, kw_only=True)
class PictureSettings(Settings, title='files'):
    """What is read and written."""

    checkpoint: tuple[str, ...] = setting(
        (), 'checkpoints of train.py, or other weights with --model', positional=True, nargs='+', metavar='CHECKPOINT')
    images: str = setting(
        '', 'an image, or a folder of images or of class folders', required=True, metavar='DIR')
    output: str = setting('', 'picture to write', type=file_to_write('.png'), required=True, metavar='FILE.png')
    overwrite: bool = switch('replace the picture if it already exists')
    limit: int = setting(8, 'number of images at most (default: 8)', type=NATURAL, metavar='N')


@dataclass(frozen=True, kw_only=True)
class WidthSettings(Settings, title='sub-networks'):
    """Sub-networks that are drawn next to the full networks."""

    width: tuple[float, ...] | None = setting(
        None, 'also draw sub-networks of these widths, with their part of the full network\'s BatchNorm statistics',
        type=SHARE, nargs='+', metavar='W')
    divisor: int | None = setting(
        None, 'round the channels of sub-networks to multiples of N (default: as trained, else 8)', type=NATURAL,
        metavar='N', idle=needs('width'))


@dataclass(frozen=True, kw_only=True)
class MapSettings(Settings, title='maps'):
    """How maps are computed and drawn."""

    label: str | None = setting(
        None, 'class whose map is drawn, by name or number (default: the predicted class)', flags=('--class',),
        metavar='CLASS')
    method: str = setting('gradcam', 'kind of map (default: gradcam)', choices=tuple(METHODS))
    alpha: float = setting(
        0.5, 'opacity of the maps over the images, up to 1 (default: 0.5)', type=SHARE, metavar='A')


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(PictureSettings, WidthSettings, MapSettings, NetworkSettings):
    """The settings of a picture of class activation maps."""


def build_parser() -> SettingsParser:
    """Return a fresh parser."""
    return SettingsParser(
        ExplainSettings,
        resolve,
        prog='python -m gradaug_timm.explain',
        description='Draws where networks see a class: a row for each image, a column for each network.',
    )


def resolve(settings: ExplainSettings) -> ExplainSettings:
    """Return the settings, if the picture can be written.

    Raises:
        ValueError: The picture already exists, or a package is missing.
    """
    if os.path.exists(settings.output) and not settings.overwrite:
        raise ValueError(f'--output {settings.output} already exists; use --overwrite to replace it')
    for name, package in (('pytorch_grad_cam', 'grad-cam'), ('matplotlib', 'matplotlib')):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f'class activation maps need the package {package}: pip install "gradaug_timm[explain]"')
    return settings
