"""The loaders of `--device-augment`."""
from collections.abc import Callable

import torch
from timm.data import MaybePILToTensor, create_transform
from torch.utils.data import Dataset, DistributedSampler
from torchvision import transforms

from ...data import DeviceLoader, hold
from ...upstream import OrderedDistributedSampler
from ..arguments.settings import TrainSettings
from ..processes import Precision, Process

WIDTH, HEIGHT = -1, -2


def build_device_loaders(
        args: TrainSettings,
        train: Dataset,
        validation: Dataset | None,
        config: dict,
        process: Process,
        precision: Precision,
) -> tuple[DeviceLoader, DeviceLoader | None]:
    """Loaders of training and validation, whose images are all held on the device.

    Args:
        args: The flags.
        train: The training images; its transform is set, as is that of `validation`.
        validation: The validation images.
        config: timm's data configuration of the network.
        process: The device, and this process's share.
        precision: The type of the images.

    Raises:
        ValueError: The images can't be held or padded.
    """
    common = dict(mean=config['mean'], std=config['std'], dtype=precision.model_dtype or torch.float32)
    train_loader = _train_loader(args, train, config, process, common)
    return train_loader, None if validation is None else _validation_loader(args, validation, config, process, common)


def _train_loader(args, dataset: Dataset, config: dict, process: Process, common: dict) -> DeviceLoader:
    padding, smallest = args.reflect_pad or args.zero_pad, min(config['input_size'][1:])
    if args.reflect_pad >= smallest:
        raise ValueError(f'--reflect-pad {padding} must be below {smallest}, the size of the images')
    dataset.transform = _fixed_transform(args, config)
    held = hold(
        dataset,
        device=process.device,
        padding=padding,
        padding_mode='reflect' if args.reflect_pad else 'constant',
        workers=args.workers,
    )
    flips = {dim: share for dim, share in ((WIDTH, args.hflip), (HEIGHT, args.vflip)) if share}
    return DeviceLoader(
        held,
        DistributedSampler(held, process.world_size, process.rank, seed=args.seed),
        args.batch_size,
        drop_last=True,
        flips=None if args.no_aug else flips,
        seed=args.seed,
        **common,
    )


def _fixed_transform(args, config: dict) -> Callable:
    """What training does with an image before anything random."""
    if args.no_aug:
        return create_transform(
            config['input_size'],
            is_training=True,
            no_aug=True,
            use_prefetcher=True,
            interpolation=config['interpolation'],
        )
    return transforms.Compose([transforms.Resize(config['input_size'][1:]), MaybePILToTensor()])


def _validation_loader(args, dataset: Dataset, config: dict, process: Process, common: dict) -> DeviceLoader:
    """Nothing in timm's transform of evaluation is random, so images are held as it leaves them."""
    dataset.transform = create_transform(
        config['input_size'],
        use_prefetcher=True,
        interpolation=config['interpolation'],
        crop_pct=config['crop_pct'],
    )
    held = hold(dataset, device=process.device, workers=args.workers)
    sampler = OrderedDistributedSampler(held, process.world_size, process.rank)
    return DeviceLoader(held, sampler, args.validation_batch_size or args.batch_size, **common)
