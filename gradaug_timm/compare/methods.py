"""Methods: what is added to the settings that all runs share."""
from typing import NamedTuple

from ..task.presets import PRESETS
from ..training.arguments.shipped import find_settings

BASELINE = 'baseline'
# Flags of train.py. CutMix as in the paper's tables; Mixup as in timm's recipes for ImageNet; presets by their names.
BUILT_IN = {
    BASELINE: (),
    'cutmix': ('--cutmix', '1', '--mixup-prob', '0.5'),
    'mixup': ('--mixup', '0.2'),
    'gradaug': ('--gradaug',),
    **{name: ('--gradaug', '--gradaug-preset', name) for name in PRESETS},
}


class Method(NamedTuple):
    """A method.

    Args:
        name: Its name in tables and folders.
        files: YAML files that override the settings of all runs.
        flags: Flags of train.py.
    """
    name: str
    files: tuple[str, ...]
    flags: tuple[str, ...]


def method_of(text: str) -> Method:
    """Return the method that a text of the command line stands for.

    Raises:
        ValueError: A part of it is neither a built-in method nor a file.
    """
    files, flags = [], []
    for part in text.split('+'):
        if part in BUILT_IN:
            flags += BUILT_IN[part]
        elif part.endswith(('.yaml', '.yml')):
            files.append(find_settings(part))
        else:
            raise ValueError(f'--methods {text}: {part!r} must be one of {", ".join(BUILT_IN)}, or a YAML file')
    if not files and '--gradaug' not in flags:
        flags.append('--no-gradaug')
    return Method('+'.join(map(_stem, text.split('+'))), tuple(files), tuple(flags))


def _stem(part: str) -> str:
    return part.replace('\\', '/').rpartition('/')[2].removesuffix('.yaml').removesuffix('.yml')
