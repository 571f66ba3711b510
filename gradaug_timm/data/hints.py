"""Hints for folders whose layout is not the expected one."""
import os
from collections.abc import Sequence

from .findings import counted
from .folders import is_ignored, is_image, kinds_of, visible_files

SPLITS = ('train', 'training', 'val', 'valid', 'validation', 'eval', 'evaluation', 'test', 'testing')


def split_hint(root: str, names: Sequence[str], flag: str) -> str:
    """Return what to do about a split that a folder lacks; '' if nothing is obvious.

    Args:
        root: The folder.
        names: The names that the split may have.
        flag: The flag that names the split.
    """
    folders = [entry.name for entry in os.scandir(root) if entry.is_dir() and not is_ignored(entry.name)]
    inner = [name for name in sorted(folders) for split in names if os.path.isdir(os.path.join(root, name, split))]
    if inner:
        return f'use --data-dir {os.path.join(root, inner[0])}, which has it'
    other = [name for name in sorted(folders) if name.lower() in names]
    if other:
        return f'use {flag} {other[0]}'
    if os.path.basename(os.path.abspath(root)).lower() in SPLITS:
        return f'{root} seems to be one of the splits: use --data-dir {os.path.dirname(root.rstrip(os.sep)) or "."}'
    if flag == '--val-split' and 'test' in folders:
        return f'use {flag} test, or "" to train without validation'
    if not {name.lower() for name in folders} & {*SPLITS}:
        return 'use --train-split "train[:80%]" --val-split "train[80%:]" if it contains the class folders itself'
    return f'use {flag} "" to train without validation' if flag == '--val-split' else ''


def flat_hint(folder: str) -> str:
    """Return what a folder without class folders holds."""
    files = list(visible_files(folder))
    images = sum(map(is_image, files))
    if images:
        return f'it has {images:,} images, which must be in a folder for each class'
    return f'found {counted(kinds_of(files).items()) or "no files"}'
