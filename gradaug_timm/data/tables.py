"""Folders of Hugging Face's datasets: files in them that are not part of the data."""
import json
import logging
import os
from collections.abc import Sized
from typing import Any

from torch.utils.data import Dataset

from .class_names import listed
from .folders import visible_files

_logger = logging.getLogger(__name__)

STATE, INFO = 'state.json', 'dataset_info.json'  # what datasets writes beside its tables
CACHE = 'cache-'  # names of the tables that `map` and `filter` write beside the tables that they read


def check_cache_files(folder: str) -> None:
    """Raise ValueError if a folder holds tables that `map` or `filter` has cached; datasets would read them as rows."""
    cached = [path for path in visible_files(folder) if path.endswith('.arrow') and _is_cached(path)]
    if cached:
        raise ValueError(
            f'{folder} has {len(cached)} tables that map or filter of datasets has cached there, and that would be '
            f'read as more rows: {listed((os.path.relpath(path, folder) for path in cached), 3)}; delete them')


def stored_rows(folder: str, split: str) -> int | None:
    """Return how many rows a split has by the dataset_info.json in a folder or in the split's folder; None: unknown."""
    for path in (os.path.join(folder, INFO), os.path.join(folder, split, INFO)):
        splits = _read(path).get('splits')
        entry = splits.get(split) if isinstance(splits, dict) else None
        if isinstance(entry, dict) and isinstance(entry.get('num_examples'), int):
            return entry['num_examples']
    return None


def warn_of_other_rows(dataset: Dataset, folder: str, split: str) -> None:
    """Log a warning if a data set has other rows than the file that describes it says."""
    stored = stored_rows(folder, split)
    if stored is not None and isinstance(dataset, Sized) and len(dataset) != stored:
        _logger.warning(
            f'{folder}: split {split!r} has {len(dataset):,} rows, and {stored:,} by its {INFO}; are files in '
            'the folder that are not part of the data?')


def _is_cached(path: str) -> bool:
    """Return whether a table is not one of those that its folder was saved with."""
    folder, name = os.path.split(path)
    files = _read(os.path.join(folder, STATE)).get('_data_files')
    if isinstance(files, list):
        return name not in {each.get('filename') for each in files if isinstance(each, dict)}
    return name.startswith(CACHE)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
