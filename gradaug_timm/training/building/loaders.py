"""The data loaders of a run, which are checked before the first epoch."""
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.data import AugMixDataset, FastCollateMixup, Mixup, MultiLabelTarget, create_loader
from torch.utils.data import Dataset, IterableDataset

from ...cli import flag, one_line
from ...data import (
    ReadableDataset,
    StreamedImages,
    check_labels,
    check_shards,
    check_sizes,
    check_splits,
    class_balanced,
    class_names,
    create_dataset,
    input_mode,
    insert_augmentations,
    key_loader,
    leave_out_unreadable,
    match_validation,
    stratified,
    warn_of_unused_classes,
)
from ...data.class_names import innermost, listed
from ...data.factory import check_parts, is_folder
from ...data.trial import check_image, try_transforms
from ...upstream import PrefetchLoader, end_workers, reader_of
from ..arguments.criteria import mixing_active
from ..arguments.settings import TrainSettings
from ..position import Position
from ..processes import Precision, Process
from .device_loaders import build_device_loaders

_logger = logging.getLogger(__name__)


@dataclass
class Loaders:
    """The training and validation batches of a run.

    Args:
        train: Training batches.
        validation: Validation batches; None without validation.
        mixup: Mixes batches in the main process.
        batch_size: The mean size of a training batch.
        parts: Parts of the loader that have a method `start_at`.
        by_batch: Whether the loader can resume at a batch; false for iterable data sets and for timm's loader that
            prefetches the next epoch.
        readable: Counts unreadable training images; None if they are not counted.
        normalization: Mean and standard deviation of each channel with which images are normalised.
        on_device: Whether batches arrive on the device, in the network's precision.
        mixing_ends: The first epoch without mixing; 0: mix in all epochs.
        size_weight: How a batch's weight in the gradient grows with its size: `none`, `sqrt` or `linear`.
        class_names: The names of the classes in the order of labels; None if they are unknown.
    """

    train: Any
    validation: Any
    mixup: Mixup | None
    batch_size: float
    parts: Sequence[Any] = ()
    by_batch: bool = True
    readable: ReadableDataset | StreamedImages | None = None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] = ((0.,), (1.,))
    on_device: bool = True
    mixing_ends: int = 0
    size_weight: str = 'none'
    class_names: tuple[str, ...] | None = None

    def start_at(self, position: Position) -> None:
        """Let the next iteration over training batches begin at `position`; later iterations are the next epochs."""
        for part in self.parts:
            part.start_at(position.epoch, position.batch)

    @property
    def streamed(self) -> bool:
        """Whether training images come from a stream, from which unreadable ones are left out."""
        return isinstance(self.readable, StreamedImages)

    def skipped(self) -> int:
        """Return the number of unreadable training images since the last call."""
        return 0 if self.readable is None else self.readable.take_skipped()

    def end_workers(self) -> None:
        """End all data workers; a further iteration starts new ones."""
        for loader in (self.train, self.validation):
            if loader is not None:
                end_workers(loader)

    def weight(self, images: int) -> float:
        """Return the weight of a batch's gradient."""
        if self.size_weight == 'none':
            return 1.
        ratio = images / self.batch_size
        return ratio if self.size_weight == 'linear' else ratio ** 0.5

    def end_mixing(self, position: Position) -> None:
        """Stop mixing batches from `position` on if `mixing_ends` is reached.

        Workers that persist between epochs have a copy of the mixer, so they are restarted.
        """
        if not self.mixing_ends or position.epoch < self.mixing_ends:
            return
        if self.mixup is not None:
            self.mixup.mixup_enabled = False
        elif isinstance(self.train, PrefetchLoader) and self.train.mixup_enabled:
            self.train.mixup_enabled = False
            end_workers(self.train)
            self.start_at(position)  # restarted workers had prefetched batches


def build_loaders(
        args: TrainSettings,
        config: dict,
        num_classes: int,
        process: Process,
        precision: Precision,
) -> Loaders:
    """Build the loaders for `config`, timm's data configuration of the network.

    Raises:
        ValueError: Data are missing, or do not fit together or to the network or the batch size.
    """
    train, validation = _create_datasets(args, config, num_classes)
    check_shards(train, 'training', processes=process.world_size, workers=args.workers)
    if process.distributed and validation is not None:
        workers = _validation_workers(args, validation, distributed=True)
        check_shards(validation, 'validation', processes=process.world_size, workers=workers)
    train = select_part(args, train)
    if args.aug_repeats and not process.distributed:
        raise ValueError(f'--aug-repeats {args.aug_repeats:g} repeats images over several processes; start them with '
                         'torchrun, or use --aug-repeats 0')
    mixup = _create_mixup(args, num_classes)
    if args.device_augment:
        train_loader, validation_loader = build_device_loaders(args, train, validation, config, process, precision)
    else:
        train_loader, validation_loader = _build_timm_loaders(
            args, train, validation, config, mixup, process, precision)
        try_transforms((train_loader.loader if isinstance(train_loader, PrefetchLoader) else train_loader).dataset)
    if args.keep_last_batch:
        _keep_last_batch(train_loader, mixing=mixup is not None)
    check_sizes(train, len(train_loader), batch_size=args.batch_size)
    scheduled = args.train_img_sizes is not None
    average = train_loader.batch_sampler.average_batch_size if scheduled else None
    parts, readable = _key(args, train_loader, process)
    if validation_loader is not None and not args.device_augment:
        leave_out_unreadable(validation_loader)
    return Loaders(
        train=train_loader,
        validation=validation_loader,
        mixup=None if isinstance(mixup, FastCollateMixup) else mixup,
        batch_size=float(args.batch_size) if average is None else average,
        parts=parts,
        by_batch=bool(parts) and not args.use_multi_epochs_loader,
        readable=readable,
        normalization=(config['mean'], config['std']),
        on_device=not args.no_prefetcher,
        mixing_ends=args.mixup_off_epoch,
        size_weight=args.variable_batch_loss_scale if scheduled else 'none',
        class_names=class_names(train),
    )


def _key(args, loader, process: Process) -> tuple[list, ReadableDataset | None]:
    """Derive all random draws of a loader from the seed and the position in the run alone."""
    if args.device_augment:
        return [loader], None
    if isinstance(loader.dataset, IterableDataset):
        return [], loader.dataset if isinstance(loader.dataset, StreamedImages) else None
    parts = key_loader(loader, seed=args.seed, rank=process.rank)
    return parts, loader.dataset.dataset


def open_datasets(
        args: TrainSettings,
        *,
        channels: int,
        num_classes: int,
        checked: bool = True,
) -> tuple[Dataset, Dataset | None]:
    """Open the training split, of which a part may be selected later, and the validation split; None without one.

    Args:
        args: The settings.
        channels: Channels of the network's images.
        num_classes: The number of classes.
        checked: Whether to check the layout of folders, and to log what is unusual.

    Raises:
        ValueError: Data are missing, or their layout is wrong.
    """
    if is_folder(args.dataset):
        check_splits(args.data_dir, args.train_split, args.val_split, name=args.dataset)
    encode = None
    if args.task == 'multilabel':
        encode = MultiLabelTarget(num_classes, dense=args.target_format == 'multihot')
    common: dict[str, Any] = dict(
        class_map=args.class_map,
        download=args.dataset_download,
        batch_size=args.batch_size,
        input_img_mode=input_mode(args.input_img_mode, channels),
        input_key=args.input_key or None,
        target_key=args.target_key or None,
        target_format=args.target_format,
        trust_remote_code=args.dataset_trust_remote_code,
        target_transform=encode,
        checked=checked,
    )
    train = create_dataset(
        args.dataset, args.data_dir, args.train_split,
        is_training=True, seed=args.seed, repeats=args.epoch_repeats, num_samples=args.train_num_samples, **common)
    if not args.val_split:
        return train, None
    validation = create_dataset(
        args.dataset, args.data_dir, args.val_split, num_samples=args.val_num_samples,
        lacking=class_names(train) is not None, **common)
    check_parts(args.dataset, args.data_dir, (args.train_split, args.val_split), train, validation)
    return train, validation


def select_part(args: TrainSettings, train: Dataset) -> Dataset:
    """Return the part of the training split that --labels-per-class or --train-fraction selects."""
    if args.labels_per_class:
        return class_balanced(train, args.labels_per_class, seed=args.seed)
    return stratified(train, args.train_fraction, seed=args.seed) if args.train_fraction else train


def _create_datasets(args, config: dict, num_classes: int) -> tuple[Dataset, Dataset | None]:
    train, validation = open_datasets(args, channels=config['input_size'][0], num_classes=num_classes)
    names = class_names(train)
    if names:
        _logger.info(f'Classes: {listed(names)}.')
    check_labels(train, num_classes)
    check_image(train, config['input_size'][0])
    warn_of_unused_classes(train, num_classes)
    _check_multi_label(args, train)
    if validation is not None:
        match_validation(train, validation, dense=args.target_format == 'multihot')
        check_labels(validation, num_classes)
        check_image(validation, config['input_size'][0])
        _check_multi_label(args, validation)
    return train, validation


def _check_multi_label(args, dataset: Dataset) -> None:
    """Raise ValueError if labels are not those of the classes, as far as they are known without reading images."""
    if args.task != 'multilabel':
        return
    source: Any = innermost(dataset)
    try:
        for target in getattr(source, 'first_labels', None) or getattr(reader_of(source), 'iter_targets', tuple)():
            source.target_transform(target)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        given = ' and '.join(f'{flag(name)} {value}' for name in ('num_classes', 'target_key', 'target_format')
                             if (value := getattr(args, name)))
        raise ValueError(f'--task multilabel with {given} does not fit the data set: {one_line(error, None)}'
                         ) from error


def _create_mixup(args, num_classes: int) -> Mixup | FastCollateMixup | None:
    if not mixing_active(args):
        return None
    mixer = Mixup if args.no_prefetcher or args.device_augment else FastCollateMixup
    return mixer(
        mixup_alpha=args.mixup,
        cutmix_alpha=args.cutmix,
        cutmix_minmax=args.cutmix_minmax,
        prob=args.mixup_prob,
        switch_prob=args.mixup_switch_prob,
        mode=args.mixup_mode,
        label_smoothing=args.smoothing,
        num_classes=num_classes,
        multi_label=args.task == 'multilabel',
    )


def _build_timm_loaders(args, train: Dataset, validation: Dataset | None, config: dict, mixup, process, precision):
    common = dict(
        input_size=config['input_size'],
        mean=config['mean'],
        std=config['std'],
        pin_memory=args.pin_mem,
        img_dtype=precision.model_dtype or torch.float32,
        device=process.device,
        distributed=process.distributed,
        use_prefetcher=not args.no_prefetcher,
    )
    train_loader = _create_train_loader(args, train, config, common, mixup)
    return train_loader, None if validation is None else _create_validation_loader(args, validation, config, common)


def _create_train_loader(args, dataset: Dataset, config: dict, common: dict, mixup):
    source = AugMixDataset(dataset, num_splits=args.aug_splits) if args.aug_splits else dataset
    progressive = args.train_size_schedule == 'progressive'
    interpolation = config['interpolation'] if args.no_aug else args.train_interpolation or config['interpolation']
    loader = create_loader(
        source,
        batch_size=args.batch_size,
        is_training=True,
        no_aug=args.no_aug,
        re_prob=args.reprob,
        re_mode=args.remode,
        re_count=args.recount,
        re_split=args.resplit,
        train_crop_mode=args.train_crop_mode,
        scale=args.scale,
        ratio=args.ratio,
        hflip=args.hflip,
        vflip=args.vflip,
        color_jitter=args.color_jitter,
        color_jitter_prob=args.color_jitter_prob,
        grayscale_prob=args.grayscale_prob,
        gaussian_blur_prob=args.gaussian_blur_prob,
        auto_augment=args.aa,
        num_aug_repeats=args.aug_repeats,
        num_aug_splits=args.aug_splits,
        interpolation=interpolation,
        num_workers=args.workers,
        worker_seeding=args.worker_seeding,
        collate_fn=mixup if isinstance(mixup, FastCollateMixup) else None,
        use_multi_epochs_loader=args.use_multi_epochs_loader,
        input_size_choices=args.train_img_sizes,
        batch_size_choices=args.train_batch_sizes,
        batch_choice_weights=args.train_size_probs,
        batch_choice_seed=args.seed,
        batch_choice_schedule=args.train_size_schedule,
        batch_schedule_epochs=args.epochs if progressive else None,
        batch_schedule_spread=args.train_size_schedule_spread,
        batch_schedule_random_mix=args.train_size_random_mix,
        num_batches=args.train_batches_per_epoch,
        **common,
    )
    if hasattr(loader.sampler, 'seed'):
        loader.sampler.seed = args.seed
    if args.reflect_pad or args.zero_pad or args.pca_lighting:
        dataset.transform = insert_augmentations(
            dataset.transform,
            size=tuple(config['input_size'][1:]),
            reflect_pad=args.reflect_pad,
            zero_pad=args.zero_pad,
            pca_lighting=args.pca_lighting,
        )
    return loader


def _keep_last_batch(loader, *, mixing: bool) -> None:
    """Also train on the last, incomplete batch of an epoch, which timm's loader skips.

    Raises:
        ValueError: The last batch has too few images for BatchNorm or mixing, or the data set has no length.
    """
    if isinstance(loader.dataset, IterableDataset):
        raise ValueError('--keep-last-batch does not support iterable data sets, which have no length')
    rest = len(loader.sampler) % loader.batch_sampler.batch_size
    if rest == 1 or (rest % 2 and mixing):
        needed = 'at least 2 images' if rest == 1 else 'an even number of images for --mixup and --cutmix'
        raise ValueError(f'--keep-last-batch: the last batch has {rest} image{"s" * (rest > 1)}, but needs {needed}')
    loader.batch_sampler.drop_last = False


def _create_validation_loader(args, dataset: Dataset, config: dict, common: dict):
    return create_loader(
        dataset,
        batch_size=args.validation_batch_size or args.batch_size,
        is_training=False,
        interpolation=config['interpolation'],
        crop_pct=config['crop_pct'],
        num_workers=_validation_workers(args, dataset, distributed=common['distributed']),
        **common,
    )


def _validation_workers(args, dataset: Dataset, *, distributed: bool) -> int:
    return min(2, args.workers) if distributed and isinstance(dataset, IterableDataset) else args.workers
