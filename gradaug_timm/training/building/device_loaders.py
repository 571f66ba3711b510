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
    """Build the training and validation loaders, which keep all images on the device.

    Args:
        args: The settings.
        train: The training images; the transform of the data set is replaced.
        validation: The validation images; the transform is replaced too.
        config: timm's data configuration of the network.
        process: The device and the rank of this process.
        precision: The type of the images.

    Raises:
        ValueError: The images do not fit on the device or cannot be padded.
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
    """Return the transform of training images before all random ones."""
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
    """Build the validation loader; images are stored after timm's transform, which has nothing random."""
    dataset.transform = create_transform(
        config['input_size'],
        use_prefetcher=True,
        interpolation=config['interpolation'],
        crop_pct=config['crop_pct'],
    )
    held = hold(dataset, device=process.device, workers=args.workers, leave_out=True)
    sampler = OrderedDistributedSampler(held, process.world_size, process.rank)
    return DeviceLoader(held, sampler, args.validation_batch_size or args.batch_size, **common)
