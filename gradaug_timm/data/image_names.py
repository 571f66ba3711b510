"""Names of single images in messages: the file, or the row of a table."""
from typing import Any

from torch.utils.data import Dataset, Subset

from ..upstream import reader_of, tar_place


def image_name(dataset: Any, index: int) -> str:
    """Return where image `index` of a data set comes from: its file, or its row with the file's name if it has one."""
    while not hasattr(dataset, 'reader') and isinstance(getattr(dataset, 'dataset', None), Dataset):
        if isinstance(dataset, Subset):
            index = dataset.indices[index]
        dataset = dataset.dataset
    reader = reader_of(dataset)
    path = _path(dataset, reader, index)
    if not hasattr(reader, 'image_key'):
        return path or f'item {index} of {type(dataset).__name__}'
    return f'row {index} of split {reader.split}' + (f' ({path})' if path else '')


def _path(dataset: Any, reader: Any, index: int) -> str | None:
    """Return the path or the file name of an image; None if the data set does not know it."""
    try:
        if hasattr(reader, 'image_key'):  # a table, whose other columns may be large
            return reader.dataset.select_columns(reader.image_key)[index][reader.image_key]['path']
        if hasattr(dataset, 'filename'):
            return tar_place(reader, index) or dataset.filename(index, absolute=True)
        samples = getattr(dataset, 'samples', getattr(dataset, 'imgs', None))  # of torchvision
        return None if samples is None else str(samples[index][0])
    except Exception:  # a name is only for a message
        return None
