"""The settings that come with the package; names such as `cifar100/wide_resnet28_10_gradaug` find them."""
import os
from pathlib import Path

from ...hints import nearest

ENDING = '.yaml'
FOLDER = 'hparams'
PACKAGE = Path(__file__).resolve().parents[2]


def find_settings(name: str, *, folder: str = '') -> str:
    """Return the path of the file `name` in a folder, or else of the shipped settings `name`.

    Args:
        name: A path, or the name of shipped settings, with or without `.yaml`.
        folder: The folder to which a path is relative.

    Returns:
        A path; if nothing is found, the path of the missing file.
    """
    path = os.path.join(folder, name)
    if os.path.exists(path) and not os.path.isdir(path):
        return path
    return str(settings_folder() / f'{_bare(name)}{ENDING}') if _bare(name) in _names() else path


def hint(name: str) -> str:
    """Return a suggestion of settings with a similar name, for the end of an error."""
    names = [known for known in _names() if '/_' not in known]  # `_` marks mere bases
    last = {known.rpartition('/')[2]: known for known in names}
    close = nearest(_bare(name), names) or last.get(nearest(_bare(name), last) or '')
    return f', did you mean {close}?' if close else ''


def settings_folder() -> Path:
    """Return the folder of the settings: in the installed package, or next to it in a clone."""
    inside = PACKAGE / FOLDER
    return inside if inside.is_dir() else PACKAGE.parent / FOLDER


def _names() -> list[str]:
    folder = settings_folder()
    return [path.relative_to(folder).with_suffix('').as_posix() for path in sorted(folder.rglob(f'*{ENDING}'))]


def _bare(name: str) -> str:
    """Return `name` as listed by `_names`; paths such as hparams/NAME.yaml are supported too."""
    return name.removeprefix(f'{FOLDER}/').removesuffix(ENDING)
