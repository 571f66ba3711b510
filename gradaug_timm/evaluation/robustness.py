"""Errors of networks on corrupted and on adversarial images, side by side."""
import copy
import logging
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from ..data import ReadRows, check_labels, class_names, report_left_out
from ..data.by_name import same_names, use_labels_of
from ..data.class_names import class_labels, innermost
from ..devices import pick_device
from ..seeding import seeded
from .as_trained import open_as_trained, with_data_of_run
from .attacks import Normalised, fgsm, pgd
from .checks import resolve
from .classes import match_classes
from .corruptions import Corrupted, names_of
from .loading import evaluation_loader, open_split
from .mce import ALEXNET, ALEXNET_CLEAN, mce, mean_errors, relative_mce
from .metrics import Metrics
from .published import CorruptedArray, find_corruption
from .robustness_report import CLEAN, title
from .settings import EvaluationSettings
from .trained import Trained

_logger = logging.getLogger(__name__)

IMAGENET_CLASSES, IMAGENET_PIXELS = 1000, 224
GENERATED = 'ImageNet-C'
Key = tuple[str, int | float | None]  # corruption and severity, attack and distance, or CLEAN and None


def validate_robustness(args: EvaluationSettings, given: Trained | None = None) -> list[dict]:
    """Evaluate all checkpoints on clean images, and on the corrupted and adversarial images that the settings name.

    Args:
        args: The settings.
        given: The first network; None opens the one that the settings name.

    Returns:
        The results of each checkpoint by name; errors in per cent.

    Raises:
        ValueError: What the settings name does not exist or does not fit; the message is one line.
    """
    device, dtype = pick_device(args.device), getattr(torch, args.model_dtype or 'float32')
    opened = _load(args, given)
    first, config = opened[args.checkpoint], opened[args.checkpoint].config
    args = resolve(replace(with_data_of_run(args, first), model=first.name, in_chans=config['input_size'][0]))
    networks = {path: each.network.to(device=device, dtype=dtype) for path, each in opened.items()}
    num_classes = args.num_classes or next(iter(networks.values())).num_classes
    if args.mce_baseline == 'alexnet' and num_classes != IMAGENET_CLASSES:
        raise ValueError(f'--mce-baseline alexnet has errors for ImageNet\'s {IMAGENET_CLASSES} classes, not for '
                         f'{num_classes}; give a checkpoint as baseline')
    clean = open_split(args, args.split, config, num_classes=num_classes)
    if isinstance(clean, IterableDataset):
        raise ValueError('--corruptions and --fgsm-eps need a data set whose images are numbered, not an iterable one')
    match_classes(first, clean, args, args.split)
    check_labels(clean, num_classes)
    if args.corruptions_dir:
        for name in names_of(args.corruptions or []):
            for severity in args.severities:
                find_corruption(args.corruptions_dir, name, severity)
    elif args.corruptions:
        _logger.info(f'Corruptions are generated with the parameters of {GENERATED}.')
        if min(config['input_size'][1:]) < IMAGENET_PIXELS / 2:
            _logger.warning(f'{GENERATED}\'s corruptions are stronger than those of CIFAR-10-C and CIFAR-100-C; for '
                            'their figures, name the folder of their .npy files by --corruptions-dir.')
    measure = partial(_measure, args, networks, device=device, dtype=dtype)
    errors: dict[str, dict[Key, float]] = {path: {} for path in networks}
    _add(errors, (CLEAN, None), measure(clean, config))
    for name in names_of(args.corruptions or []):
        for severity in args.severities:
            dataset, seen = _corrupted(args, clean, config, name, severity, num_classes)
            _add(errors, (name, severity), measure(dataset, seen))
    for eps in args.fgsm_eps or ():
        _add(errors, ('pgd' if args.pgd_steps else 'fgsm', eps), measure(clean, config, eps=eps))
    return [_results(args, path, errors) for path in networks]


def _load(args: EvaluationSettings, given: Trained | None) -> dict[str, Trained]:
    paths = [args.checkpoint, *(args.compare or ())]
    if args.mce_baseline is not None and args.mce_baseline != 'alexnet':
        paths.append(args.mce_baseline)
    opened = {} if given is None else {args.checkpoint: replace(given, network=copy.deepcopy(given.network))}
    for path in paths:
        if path not in opened:
            opened[path] = open_as_trained(replace(args, checkpoint=path))
    names = opened[args.checkpoint].class_names
    for path, each in opened.items():
        if names and each.class_names and not same_names(names, each.class_names):
            raise ValueError(f'{path} was trained with other classes, or another order of classes, than '
                             f'{args.checkpoint or args.model}: evaluate them one after the other')
    return opened


def _corrupted(
        args: EvaluationSettings,
        clean: Dataset,
        config: dict,
        name: str,
        severity: int,
        num_classes: int,
) -> tuple[Dataset, dict]:
    """Return the images, and how the network sees them: ImageNet-C's are cropped already."""
    if not args.corruptions_dir:
        return Corrupted(clean, name, severity, seed=args.seed, side=min(config['input_size'][1:])), config
    folder = find_corruption(args.corruptions_dir, name, severity)
    if folder.endswith('.npy'):
        return _of_array(args, clean, folder, severity, num_classes), config
    own = replace(args, data=None, data_dir=folder, dataset='')
    dataset = open_split(own, args.split, config, num_classes=num_classes)
    ours, theirs = (class_labels(each) or {} for each in (clean, dataset))
    if ours and theirs and ours.keys() != theirs.keys():
        raise ValueError(f'{folder} has other folders of classes than the clean images; give --class-map')
    names = class_names(clean)
    if names is not None:
        use_labels_of(names, dataset, what=folder, known_to='the clean images', mapped=bool(args.class_map))
    return dataset, {**config, 'crop_pct': 1.}


def _of_array(
        args: EvaluationSettings,
        clean: Dataset,
        path: str,
        severity: int,
        num_classes: int,
) -> CorruptedArray:
    """Open corrupted images of CIFAR, whose labels must be those of the clean images if these are as many."""
    dataset = CorruptedArray(path, severity, mode=args.input_img_mode or ('RGB' if args.image_channels == 3 else 'L'))
    check_labels(dataset, num_classes)
    labels = getattr(innermost(clean), 'targets', None)
    if labels is not None and len(labels) == len(dataset) and list(map(int, labels)) != dataset.targets:
        raise ValueError(f'the labels next to {path} are not those of the clean images, which are as many: name the '
                         'data set that was corrupted')
    return dataset


def _measure(
        args: EvaluationSettings,
        networks: dict,
        dataset: Dataset,
        config: dict,
        *,
        device: torch.device,
        dtype: torch.dtype,
        eps: float | None = None,
) -> dict[str, float]:
    """Return each network's top-1 error; with `eps`, on images that are made to mislead it."""
    loader = evaluation_loader(args, dataset, config, device=device, dtype=dtype)
    metrics = {path: Metrics(args, dataset, device=device) for path in networks}
    generator, rows = seeded(args.seed), ReadRows(loader)
    for images, target in loader:
        images, target = images.to(device=device, dtype=dtype), target.to(device)
        kept = rows.mask(target)
        if kept is not None:
            images, target = images[kept], target[kept]
        if not len(images):
            continue
        for path, network in networks.items():
            seen = images if eps is None else _attacked(args, network, config, images, target, eps, generator)
            with torch.no_grad(), torch.autocast(device.type, getattr(torch, args.amp_dtype), enabled=args.amp):
                metrics[path].update(network(seen), target)
    if not rows.kept:
        raise ValueError(f'--split {args.split} has no image that can be read')
    report_left_out(rows.left_out(), f'Split {args.split}')
    return {path: each.compute()['top1_err'] for path, each in metrics.items()}


def _attacked(
        args: EvaluationSettings,
        network: nn.Module,
        config: dict,
        images: torch.Tensor,
        target: torch.Tensor,
        eps: float,
        generator: torch.Generator,
) -> torch.Tensor:
    whole = Normalised(network, config['mean'], config['std'])
    pixels = whole.pixels(images)
    if args.pgd_steps:
        size = args.pgd_step_size or 2.5 * eps / args.pgd_steps
        pixels = pgd(whole, pixels, target, eps, steps=args.pgd_steps, step_size=size, generator=generator)
    else:
        pixels = fgsm(whole, pixels, target, eps)
    return (pixels - whole.mean) / whole.std


def _add(errors: dict[str, dict[Key, float]], key: Key, measured: dict[str, float]) -> None:
    name, level = key
    _logger.info(f'{name}{"" if level is None else f" {level:g}"}:  '
                 + '  '.join(f'{title(path)} {error:.2f}' for path, error in measured.items()))
    for path, error in measured.items():
        errors[path][key] = error


def _results(args: EvaluationSettings, path: str, errors: dict[str, dict[Key, float]]) -> dict:
    own, names = errors[path], names_of(args.corruptions or [])
    results: dict[str, Any] = {'model': args.model, 'checkpoint': path, 'top1_err': own[CLEAN, None]}
    if names:
        results['corruptions'] = args.corruptions_dir or f'generated with the parameters of {GENERATED}'
        means = _means(own, names)
        results.update({f'{name}_err': round(error, 4) for name, error in means.items()})
        results['corruption_err'] = round(sum(means.values()) / len(means), 4)
        results.update(_relative(args, means, own[CLEAN, None], errors, names))
    results.update({f'{name}_{level:g}_err': error for (name, level), error in own.items() if name in ('fgsm', 'pgd')})
    results['errors'] = [dict(corruption=name, severity=level, error=error) for (name, level), error in own.items()]
    return results


def _means(errors: dict[Key, float], names: list[str]) -> dict[str, float]:
    return mean_errors({key: error for key, error in errors.items() if key[0] in names})


def _relative(
        args: EvaluationSettings,
        means: dict[str, float],
        clean: float,
        errors: dict,
        names: list[str],
) -> dict[str, float]:
    if args.mce_baseline is None:
        return {}
    if args.mce_baseline == 'alexnet':
        baseline, baseline_clean = ALEXNET, ALEXNET_CLEAN
    else:
        other = errors[args.mce_baseline]
        baseline, baseline_clean = _means(other, names), other[CLEAN, None]
    found = {'mce': mce(means, baseline), 'relative_mce': relative_mce(means, clean, baseline, baseline_clean)}
    return {name: round(value, 4) for name, value in found.items() if value is not None}
