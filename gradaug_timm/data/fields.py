"""Fields of tables and streams that hold images and labels, checked before anything is read."""
import importlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image
from timm.data.readers.targets import get_field, has_field
from torch.utils.data import Dataset

from ..upstream import reader_of
from .guarded import ReadingError

PEEKED = 16  # samples of a stream that are read before training
SHOWN = 12  # fields in an error


def check_fields(name: str, dataset: Dataset) -> None:
    """Raise ValueError if a data set of hfds/, hfids/ or tfds/ has no such fields of images and labels."""
    reader = reader_of(dataset)
    features = features_of(reader)
    if features is None:
        return
    image_key = str(getattr(reader, 'image_key', None) or getattr(reader, 'input_key', 'image'))
    label_key = str(getattr(reader, 'label_key', None) or getattr(reader, 'target_key', 'label'))
    fields = {field: _kind(feature) for field, feature in features.items()}
    if _is_empty(reader, image_key):
        fields.pop(image_key, None)  # datasets adds the column, without images
    _check(name, 'images', '--input-key', [image_key], fields, fits=lambda kind: 'Image' in kind)
    keys = [key.strip() for key in label_key.split(',')]
    missing = [key for key in keys if not has_field(features, key)]
    labels = {field: kind for field, kind in fields.items() if field != image_key}
    if missing:
        _check(name, 'labels', '--target-key', missing, labels, fits=lambda kind: 'ClassLabel' in kind)


def first_samples(name: str, dataset: Any) -> tuple[Any, list]:
    """Return the first image and the first labels of a stream, which must not be used for anything else.

    Raises:
        ValueError: None of the first samples has an image and a label.
    """
    reader = reader_of(dataset)
    reader.dist_rank, reader.dist_num_replicas = 0, 1  # other processes see the same samples
    told: list[str] = []
    dataset.unreadable.quiet = True  # the images are read again
    try:
        found = list(itertools.islice(iter(dataset), PEEKED))
    except (ReadingError, ValueError) as error:
        told.append(str(error))
        found = []
    if not found:
        why = _parts_of_first(reader) or ''.join(f': {text}' for text in told)
        raise ValueError(f'--dataset {name}: no sample has an image and a label{why}')
    return found[0][0], [label for _, label in found]


def features_of(reader: Any) -> Mapping[str, Any] | None:
    """Return the features of a data set of Hugging Face or TensorFlow by name; None if they are not known."""
    table = getattr(reader, 'dataset', None)
    if table is not None and hasattr(table, 'features'):
        return table.features
    builder = getattr(reader, 'builder', None)
    features = getattr(getattr(builder, 'info', None), 'features', None)
    return features or (_first_row(reader) if hasattr(builder, 'as_streaming_dataset') else None)


def _first_row(reader: Any) -> Mapping[str, Any] | None:
    """Return the first row of a stream, whose values show the fields; None if it can't be read."""
    try:
        return next(iter(reader.builder.as_streaming_dataset(split=reader.split)))
    except Exception:  # checked when it is read for training
        return None


def _check(name: str, what: str, flag: str, keys: list[str], fields: Mapping[str, str], *, fits) -> None:
    absent = [key for key in keys if key.split('/')[0] not in fields] if what == 'images' else keys
    wrong = [key for key in keys if key in fields and what == 'images' and not _may_hold_images(fields[key])]
    if not absent and not wrong:
        return
    listed = ', '.join(f'{field} ({kind})' for field, kind in itertools.islice(fields.items(), SHOWN))
    close = [field for field, kind in fields.items() if fits(kind)]
    hint = f'use {flag} {" or ".join(close[:3])}' if close else f'use {flag} FIELD'
    problem = f'has no field {absent[0]}' if absent else f'has no images in field {wrong[0]} ({fields[wrong[0]]})'
    raise ValueError(f'--dataset {name} {problem} for {what}: {hint} (fields: {listed})')


def _may_hold_images(kind: str) -> bool:
    return kind in ('Image', 'string', 'binary', 'large_string', 'large_binary', 'str', 'bytes')


def _kind(feature: Any) -> str:
    """Return a short name of a feature's type."""
    name = type(feature).__name__
    if isinstance(feature, Image.Image) or (isinstance(feature, Mapping) and {*feature} == {'bytes', 'path'}):
        return 'Image'  # decoded, or as it is stored
    if name == 'Value':
        return str(feature.dtype)
    inner = getattr(feature, 'feature', None)
    if isinstance(feature, list) and feature:
        inner, name = feature[0], 'list'
    return f'{name.lower()} of {_kind(inner)}' if inner is not None else name.lower() if name == 'dict' else name


def _is_empty(reader: Any, key: str) -> bool:
    """Return whether a column of a table holds nothing but nulls."""
    table = getattr(reader, 'dataset', None)
    data = getattr(table, 'data', None)
    if data is None or key not in data.column_names or not len(data):
        return False
    column = data.column(key)
    return column.null_count == len(column)


def _parts_of_first(reader: Any) -> str:
    """Return what the first sample of a web data set consists of, for an error."""
    if not hasattr(reader, 'split_info'):
        return ''
    wds = importlib.import_module('webdataset')
    shards = [os.path.join(reader.root, name) for name in reader.split_info.filenames]
    sample = next(iter(wds.DataPipeline(wds.SimpleShardList(shards), wds.tarfile_to_samples())), None)
    if sample is None:
        return ''
    parts = [part for part in sample if not part.startswith('__')]
    images = getattr(reader, 'input_key', '')
    hints = []
    if not set(images.split(';')) & {*parts}:
        hints.append(f'images are read from {images}: use --input-key with the ending of the images')
    if reader.target_key is None and 'cls' not in parts:
        field = f', such as {", ".join(sorted(_json_fields(sample))[:SHOWN])}' if 'json' in parts else ''
        hints.append('labels are read from cls' + (
            f': use --target-key with a field of json{field}' if field else
            ', and the files of a sample must be neighbours in the tar file (tar --sort=name)'))
    elif reader.target_key is None and not _is_number(sample['cls']):
        hints.append(f'cls must be a number, not {sample["cls"][:20]!r}')
    elif reader.target_key and 'json' in parts:
        hints.append(f'--target-key {reader.target_key} {_json_problem(sample, reader.target_key)}')
    elif reader.target_key:
        hints.append(f'--target-key {reader.target_key} needs a part json')
    return f': {"; ".join(hints)} (the first sample has {", ".join(parts)})' if hints else ''


def _json_fields(sample: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        content = json.loads(sample['json'])
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _json_problem(sample: Mapping[str, bytes], key: str) -> str:
    fields = _json_fields(sample)
    if ',' not in key and has_field(fields, key):
        return f'must hold a number, or a list of numbers, not {get_field(fields, key)!r:.40}'
    return f'must be a field of json: {", ".join(sorted(fields)[:SHOWN]) or "it has none"}'


def _is_number(content: bytes) -> bool:
    try:
        int(content)
    except ValueError:
        return False
    return True


def distinct(values: Iterable[Any]) -> list:
    """Return the different values in their order; lists count as they are."""
    found: list = []
    seen: set = set()
    for value in values:
        key = repr(value) if isinstance(value, (list, dict)) else value
        if key not in seen:
            seen.add(key)
            found.append(value)
    return found
