"""The settings that come with the package, found by name: `cifar100/wide_resnet28_10_gradaug`."""
import os
from pathlib import Path

from ...cli import nearest

ENDING = '.yaml'
FOLDER = 'hparams'
PACKAGE = Path(__file__).resolve().parents[2]


def find_settings(name: str, *, folder: str = '') -> str:
    """The file `name` of a folder; where there is none, that of the shipped settings, with the ending or without.

    Args:
        name: A path, or the name of shipped settings.
        folder: What a path is relative to.

    Returns:
        A path; where nothing is found, that of the file which isn't there.
    """
    path = os.path.join(folder, name)
    if os.path.exists(path) and not os.path.isdir(path):
        return path
    return str(settings_folder() / f'{_bare(name)}{ENDING}') if _bare(name) in _names() else path


def hint(name: str) -> str:
    """Which settings are called alike, for the end of an error."""
    close = nearest(_bare(name), (known for known in _names() if '/_' not in known))  # those are bases alone
    return f', did you mean {close}?' if close else ''


def settings_folder() -> Path:
    """The folder of the settings: in the installed package, or beside it in a clone."""
    inside = PACKAGE / FOLDER
    return inside if inside.is_dir() else PACKAGE.parent / FOLDER


def _names() -> list[str]:
    folder = settings_folder()
    return [path.relative_to(folder).with_suffix('').as_posix() for path in sorted(folder.rglob(f'*{ENDING}'))]


def _bare(name: str) -> str:
    """`name` as `_names` gives it; the documents' hparams/NAME.yaml are known too."""
    return name.removeprefix(f'{FOLDER}/').removesuffix(ENDING)
