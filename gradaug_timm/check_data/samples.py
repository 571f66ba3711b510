"""Images and labels of a data set as they are stored, one after the other, for every reader."""
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from timm.data.readers.targets import get_field, multi_field_target
from torch.utils.data import Dataset, IterableDataset, Subset
from torchvision.datasets import DatasetFolder

from ..cli import one_line
from ..data.image_sets import whole_number
from ..data.labels import remapped
from ..upstream import ReaderImageFolder, image_places, reader_of
from .images import ImageFacts, image_facts

CHUNK = 256  # images that a thread reads at once


@dataclass(frozen=True)
class Sample:
    """One image.

    Args:
        name: Where it is: a path, or a row.
        label: Its label as the data set gives it.
        facts: The facts of its content.
        index: Its index in the data set, or its place in a stream.
    """

    name: str
    label: Any
    facts: ImageFacts
    index: int = 0


def read_samples(
        dataset: Dataset,
        *,
        decode: bool = False,
        threads: int = 1,
        limit: int | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a data set; those that cannot be read have facts with a problem.

    Args:
        dataset: A data set without transforms.
        decode: Whether to decode all images.
        threads: Number of reading threads, for image folders.
        limit: Number of samples to read, evenly spaced, or the first ones of a stream; None: all.
    """
    if isinstance(dataset, IterableDataset):
        for place, sample in enumerate(itertools.islice(_streamed(dataset, decode), limit)):
            yield replace(sample, index=place)
        return
    wanted = range(len(dataset))  # type: ignore[arg-type]
    indices: Sequence[int] = wanted
    while isinstance(dataset, Subset):
        dataset, indices = dataset.dataset, [dataset.indices[index] for index in indices]
    places: Sequence[int] = wanted
    if limit is not None and len(wanted) > limit:
        places = [place * len(wanted) // limit for place in range(limit)]
    open_item, name_item, parallel = _access(dataset)

    def read(chunk: Sequence[int]) -> list[Sample]:
        return [_sample(partial(open_item, indices[place]), partial(name_item, indices[place]), decode, place)
                for place in chunk]

    chunks = [places[first:first + CHUNK] for first in range(0, len(places), CHUNK)]
    with ThreadPoolExecutor(threads if parallel else 1) as pool:
        yield from itertools.chain.from_iterable(pool.map(read, chunks))


def _sample(
        open_item: Callable[[], tuple[Any, Any]],
        name_item: Callable[[], str],
        decode: bool,
        index: int = 0,
) -> Sample:
    label = None
    try:
        content, label = open_item()
        facts = image_facts(content, decode=decode)
        if hasattr(content, 'read'):
            content.close()
    except Exception as error:  # of the file system, of the reader, or of what decodes images
        facts = ImageFacts(problem=one_line(error, 160, kind=True))
    return Sample(name_item(), label, facts, index)


def _access(dataset: Any) -> tuple[Callable[[int], tuple[Any, Any]], Callable[[int], str], bool]:
    """Return how item `index` is opened and called, and whether threads may do so at the same time."""
    reader = reader_of(dataset)
    if isinstance(dataset, DatasetFolder) or isinstance(reader, ReaderImageFolder):
        samples = reader.samples
        return lambda index: (open(samples[index][0], 'rb'), samples[index][1]), lambda index: samples[index][0], True
    if reader is dataset:
        return dataset.__getitem__, lambda index: f'image {index} of {type(dataset).__name__}', False
    places = image_places(reader)
    if places is not None:
        return reader.__getitem__, lambda index: f'{places[1][index]} in {places[0]}', False
    return lambda index: reader[index][:2], lambda index: f'row {index}', False


def _streamed(dataset: IterableDataset, decode: bool) -> Iterator[Sample]:
    reader = reader_of(dataset)
    kind = type(reader).__name__
    streams = {'ReaderWds': _web_samples, 'ReaderHfids': _rows}
    if kind in streams:
        yield from streams[kind](reader, decode)
        return
    for number, (image, label) in enumerate(dataset):
        yield Sample(f'sample {number}', label, image_facts(image))


def _rows(reader: Any, decode: bool) -> Iterator[Sample]:
    """Yield the rows of a stream of Hugging Face's datasets, with undecoded images."""
    import datasets
    builder = reader.builder
    rows = builder.as_dataset(split=reader.split) if reader.download else builder.as_streaming_dataset(reader.split)
    for number, row in enumerate(rows.cast_column(reader.input_key, datasets.Image(decode=False))):
        def open_row(row=row) -> tuple[Any, Any]:
            stored = row[reader.input_key]
            if not stored:
                raise ValueError('there is no image')
            label = _mapped(reader, _label(reader, row, reader.target_key))
            return io.BytesIO(stored['bytes']) if stored.get('bytes') else open(stored['path'], 'rb'), label
        yield _sample(open_row, partial('row {}'.format, number), decode)


def _web_samples(reader: Any, decode: bool) -> Iterator[Sample]:
    """Yield the samples of a web data set, with undecoded images."""
    import webdataset
    key = reader.target_key or reader.split_info.alt_label
    urls = [os.path.join(reader.root, name) for name in reader.split_info.filenames]
    errors: list[str] = []

    def note(error: Exception) -> bool:
        errors.append(' '.join(str(error).split()))
        return True

    stages = webdataset.SimpleShardList(urls), webdataset.tarfile_to_samples(handler=note)
    for sample in webdataset.DataPipeline(*stages):
        def open_sample(sample=sample) -> tuple[Any, Any]:
            image = next((sample[each] for each in reader.input_key.split(';') if each in sample), None)
            if image is None:
                raise ValueError(f'no field {reader.input_key} (fields: {", ".join(_fields(sample))})')
            if not key:
                return io.BytesIO(image), _mapped(reader, int(sample['cls'])) if 'cls' in sample else None
            label = _label(reader, json.loads(sample.get('json', b'{}')), key)
            label = int(label) if isinstance(label, str) else whole_number(label)
            return io.BytesIO(image), label if _is_negative(label) else _mapped(reader, label)
        found = _sample(open_sample, partial(_web_name, sample), decode)
        if not (key and _is_negative(found.label)):  # timm leaves these out
            yield found
    for error in errors:
        yield Sample(error, None, ImageFacts(problem='the shard is damaged'))


def _label(reader: Any, fields: dict, key: str) -> Any:
    return multi_field_target(fields, reader.target_keys) if reader.target_keys else get_field(fields, key)


def _is_negative(label: Any) -> bool:
    return isinstance(label, int) and label < 0


def _mapped(reader: Any, label: Any) -> Any:
    """Return a label after the class map; a text, which is no label, if the map lacks it."""
    try:
        return remapped(reader, label)
    except ValueError:
        return f'{label}, which --class-map lacks'


def _fields(sample: dict) -> list[str]:
    return sorted(name for name in sample if not name.startswith('__'))


def _web_name(sample: dict) -> str:
    return f'{sample.get("__key__")} in {os.path.basename(str(sample.get("__url__")))}'
