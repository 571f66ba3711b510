"""The command line of `python -m gradaug_timm.check_data`."""
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..cli import file_to_write
from ..flags import Role, Settings, SettingsParser, setting, switch
from ..training.arguments.checks import resolve
from ..training.arguments.parsing import settings_parser
from ..training.arguments.settings import TrainSettings
from ..training.arguments.values import NATURAL


@dataclass(frozen=True, kw_only=True)
class CheckSettings(Settings, title='check', role=Role.WRITTEN):
    """How data are checked, and what is written about it."""

    results_file: str | None = setting(
        None, 'write the report to a JSON file', flags=('--json',), type=file_to_write('.json'), metavar='FILE.json')
    picture: str | None = setting(
        None, 'draw samples of each class, and histograms of classes and sizes', type=file_to_write('.png'),
        metavar='FILE.png')
    decode: bool = switch('decode all images, which also finds damage inside of files')
    limit: int | None = setting(
        None, 'look at N images of each split, evenly spaced (default: all)', type=NATURAL, metavar='N')
    strict: bool = switch('exit with 1 for warnings too')


@dataclass(frozen=True, kw_only=True)
class CheckDataSettings(CheckSettings, TrainSettings):
    """The settings of a data check: those of training, and how data are checked."""


def build_parser() -> SettingsParser:
    """Return a new parser."""
    return check_parser(
        CheckDataSettings,
        resolve,
        prog='python -m gradaug_timm.check_data',
        usage='%(prog)s [DIR] [-c FILE...] [flags of train.py] [--json FILE.json] [--picture FILE.png]',
        description='Check the data of a training command. The flags are those of train.py, or after --coco those of '
                    'gradaug_timm.detection.train; those of the data matter here.',
    )


def check_parser(
        settings: type[CheckSettings],
        resolve: Callable[[Any], Any],
        *,
        description: str,
        **kwargs,
) -> SettingsParser:
    """Return a parser of the settings of training and of a check.

    Args:
        settings: The class of the settings.
        resolve: Resolves those of training.
        description: What is checked.
        **kwargs: As for `settings_parser`.
    """
    def resolve_all(args: CheckSettings) -> Any:
        if args.picture and importlib.util.find_spec('matplotlib') is None:
            raise ValueError('--picture needs the package matplotlib: pip install "gradaug_timm[quickstart]"')
        return resolve(args)

    return settings_parser(
        settings, resolve_all, description=f'{description} Exit status: 0, 1 if training would be wrong or would not '
        'start, 2 if a flag or a path is wrong.', **kwargs)
