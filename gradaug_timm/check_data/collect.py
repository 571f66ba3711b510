"""The check of the data of a training command."""
import os
from collections.abc import Iterator, Sequence
from typing import Any

import timm
from torch.utils.data import Dataset, IterableDataset

from ..data import class_names, match_validation
from ..data.class_names import innermost
from ..data.factory import local_table
from ..data.findings import Finding, Level
from ..data.labels import known_labels
from ..data.layout import layout_findings, unread_kinds
from ..data.tables import check_cache_files, stored_rows
from ..training.arguments.settings import TrainSettings
from ..training.building.loaders import open_datasets, select_part
from ..upstream import reader_of
from .judge import class_findings, duplicate_findings, split_findings
from .report import Report
from .samples import read_samples
from .split import Split, count_samples

UNKNOWN_CLASSES = 2  # for the encoding of multi-label targets, which is not used here


def check_training_data(
        args: TrainSettings,
        *,
        num_classes: int | None = None,
        decode: bool = False,
        limit: int | None = None,
) -> tuple[Report, list[Dataset]]:
    """Check the data of a run.

    Args:
        args: The settings of the run, resolved.
        num_classes: Number of classes of the network; None: by the settings, if they name a number or a model.
        decode: Whether to decode all images.
        limit: Number of images of each split that are looked at; None: all.

    Returns:
        The report, and the data sets of its splits.

    Raises:
        ValueError: Data are missing or cannot be opened.
    """
    num_classes = num_classes or network_classes(args)
    opened = open_datasets(
        args, channels=channels_of(args), num_classes=num_classes or UNKNOWN_CLASSES, checked=False)
    train, validation = select_part(args, opened[0]), opened[1]
    named = {'train': train} if validation is None else {'train': train, 'validation': validation}
    names, table = class_names(train), local_table(args.dataset)
    report = Report(' '.join(filter(None, (args.dataset, args.data_dir))))
    if table:
        report.findings += _table_findings(table, args, named)
    splits: list[Split] = []
    for name, dataset in named.items():
        if name == 'train' or layout_of(dataset) != layout_of(train):
            report.findings += layout_findings(
                innermost(dataset), mapped=bool(args.class_map), lacking=name != 'train' and names is not None)
        split = count_samples(
            name,
            read_samples(dataset, decode=decode, threads=max(1, args.workers), limit=limit),
            total=_images_of(dataset, limit),
            names=class_names(dataset),
            dense=args.target_format == 'multihot',
        )
        split.skipped.update(unread_kinds(innermost(dataset)))
        splits.append(split)
        by_name = name != 'train' and names is not None and class_names(dataset) is not None
        report.findings += split_findings(split, num_classes=None if by_name else num_classes)
        if args.class_map:
            report.findings += _unmapped_labels(name, dataset)
        if limit is None:
            report.findings += _other_samples(split, dataset)
    report.splits = splits
    other = splits[1] if validation is not None else None
    report.findings += _differing_classes(train, validation, dense=args.target_format == 'multihot')
    whole = limit is None or all(split.images < limit for split in splits)
    if whole:  # a part does not show which classes are absent
        report.findings += class_findings(splits[0], other, multi_label=args.task == 'multilabel')
    report.findings += duplicate_findings(splits[0], other, names)
    if whole or names:
        report.findings += _unused_outputs(splits, num_classes, len(names or ()))
    return report, list(named.values())


def network_classes(args: TrainSettings) -> int | None:
    """Return the number of classes by --num-classes, or by the configuration of a given --model; None: unknown."""
    if args.num_classes or args.model == TrainSettings().model:
        return args.num_classes
    return timm.get_pretrained_cfg_value(args.model, 'num_classes') if timm.is_model(args.model) else None


def channels_of(args: TrainSettings) -> int:
    """Return the channels of the images that the network gets."""
    return args.in_chans or (args.input_size[0] if args.input_size else 3)


def layout_of(dataset: Dataset) -> Any:
    """Return the folder of a data set; the object itself if it has none."""
    source = innermost(dataset)
    return getattr(getattr(source, 'reader', source), 'root', source)


def _images_of(dataset: Any, limit: int | None) -> int:
    """Return the number of images of a split; of a stream as stated, which matters only if a part is looked at."""
    if isinstance(dataset, IterableDataset):
        return reader_of(dataset).num_samples if limit is not None else 0
    return len(dataset)


def _unmapped_labels(name: str, dataset: Dataset) -> Iterator[Finding]:
    try:
        known_labels(dataset)
    except ValueError as error:
        yield Finding(Level.ERROR, 'class_map', f'{name}: {error}')


def _other_samples(split: Split, dataset: Dataset) -> Iterator[Finding]:
    """Yield a finding if a web data set has another number of samples than its description says."""
    stated = getattr(getattr(reader_of(dataset), 'split_info', None), 'num_samples', 0)
    if stated and stated != split.images:
        yield Finding(Level.WARNING, 'row_count', f'{split.name}: the shards have {split.images:,} samples, and '
                      f'{stated:,} by _info.json, or by the name of the split')


def _differing_classes(train: Dataset, validation: Dataset | None, *, dense: bool) -> Iterator[Finding]:
    try:
        if validation is not None:
            match_validation(train, validation, dense=dense)
    except ValueError as error:
        yield Finding(Level.ERROR, 'differing_classes', str(error))


def _unused_outputs(splits: Sequence[Split], num_classes: int | None, named: int) -> Iterator[Finding]:
    """Yield a finding if the network has more classes than the data, or if its number of classes is not known."""
    needed = max([named, *(max(split.labels) + 1 for split in splits if split.labels)])
    if num_classes is None and needed:
        yield Finding(Level.NOTE, 'num_classes', f'the data have {needed} classes: train with --num-classes {needed}')
    elif num_classes is not None and num_classes > needed > 0:
        yield Finding(
            Level.WARNING, 'unused_outputs', f'the network has {num_classes} classes, and the data have {needed}; use '
            f'--num-classes {needed}')


def _table_findings(folder: str, args: TrainSettings, datasets: dict[str, Dataset]) -> Iterator[Finding]:
    try:
        check_cache_files(folder)
    except ValueError as error:
        yield Finding(Level.ERROR, 'cached_tables', str(error))
    for split, dataset in zip((args.train_split, args.val_split), datasets.values()):
        stored = stored_rows(folder, split)
        rows = None if isinstance(dataset, IterableDataset) else len(innermost(dataset))
        if None not in (stored, rows) and stored != rows:
            yield Finding(
                Level.WARNING, 'row_count', f'{os.path.join(folder, split)}: {rows:,} rows, and {stored:,} by its '
                'dataset_info.json')
