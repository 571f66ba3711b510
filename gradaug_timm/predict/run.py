"""Predictions: a network over all images."""
import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from timm.utils import check_batch_size_retry, decay_batch_step, random_seed
from torch.utils.data import IterableDataset

from ..devices import pick_device
from ..evaluation.as_trained import with_data_of_run
from ..evaluation.candidate import Candidate
from ..evaluation.contents import read_contents
from ..evaluation.loading import evaluation_loader, training_batches
from ..evaluation.metrics import Metrics
from ..evaluation.subnets import choose_subnets, subnetworks
from ..evaluation.trained import Trained, open_trained
from .arguments import PredictSettings
from .images import UNREADABLE_IMAGE, Marked, names_of, open_images
from .labels import label_texts

_logger = logging.getLogger(__name__)

DEFAULT_MODEL = 'resnet50'
OF_IMAGES = ('input_img_mode', 'input_key', 'target_key')  # settings of data that are as in training
NAMED = 3  # unreadable images that are logged; all are in the results


@dataclass(frozen=True)
class Predictions:
    """What a network says of images.

    Args:
        model: The name of the model.
        image_size: Width of the images that it sees.
        images: The data set; its transform is that of the network.
        names: A name of each image.
        outputs: Probabilities or logits [N, K]: of the likeliest classes, or of all.
        indices: The classes of the outputs [N, K]; None: all in order.
        sureness: How sure the network is of each image, [N].
        labels: The text of each class; None without labels.
        problems: Why images could not be read, by their places.
    """

    model: str
    image_size: int
    images: Any
    names: list[str]
    outputs: torch.Tensor
    indices: torch.Tensor | None
    sureness: torch.Tensor
    labels: list[str] | None
    problems: dict[int, str]


def predict(args: PredictSettings) -> Predictions:
    """Predict all images, from smaller batches if memory runs out and `retry` is on.

    Raises:
        ValueError: What the settings name does not exist or does not fit; the message is one line.
    """
    while True:
        try:
            return _predict(args)
        except RuntimeError as error:
            smaller = decay_batch_step(args.batch_size)
            if not args.retry or not smaller or not check_batch_size_retry(str(error)):
                raise
            _logger.warning(f'Memory runs out; trying again with batches of {smaller}.')
            args = replace(args, batch_size=smaller)


def open_predictor(args: PredictSettings) -> Trained:
    """Open the network that the settings name.

    Raises:
        ValueError: It does not exist or does not fit.
    """
    path = args.checkpoint
    trained = open_trained(
        path, model=args.model or (None if path else DEFAULT_MODEL), pretrained=not path, use_ema=args.use_ema,
        num_classes=args.num_classes, in_chans=args.in_chans, gp=args.gp, model_kwargs=args.model_kwargs or None,
        img_size=args.img_size, input_size=args.input_size, crop_pct=args.crop_pct, mean=args.mean, std=args.std,
        interpolation=args.interpolation or None, use_train_size=args.use_train_size)
    if args.crop_mode is None:
        return trained
    return replace(trained, config={**trained.config, 'crop_mode': args.crop_mode})


def has_several_labels(args: PredictSettings, trained: Trained) -> bool:
    """Return whether images have several labels, so that probabilities do not sum to 1."""
    if args.task is not None:
        return args.task == 'multilabel'
    metadata = read_contents(trained.path).metadata
    recipe = metadata.get('recipe')
    told = recipe.get('task') if isinstance(recipe, dict) else None
    cfg = getattr(trained.network, 'pretrained_cfg', None) or {}
    return 'multilabel' in (told, trained.settings.get('task')) or (
        cfg.get('problem_type') == 'multi_label_classification')


def _predict(args: PredictSettings) -> Predictions:
    device, dtype = pick_device(args.device), getattr(torch, args.model_dtype or 'float32')
    autocast = partial(torch.autocast, device.type, getattr(torch, args.amp_dtype)) if args.amp else nullcontext
    random_seed(args.seed)
    trained = open_predictor(args)
    name, classes, config = trained.name, trained.network.num_classes, dict(trained.config)
    labels = label_texts(trained, args.label_type, args.class_map)
    several = has_several_labels(args, trained)
    settings = with_data_of_run(args.evaluation(name), trained, only=OF_IMAGES)
    images, _ = open_images(settings, config, num_classes=classes)
    if isinstance(images, IterableDataset) and args.contact_sheet:
        raise ValueError('--contact-sheet needs a data set whose images are numbered, not an iterable one')
    candidate = _candidate(args, trained, config, device, dtype, autocast)
    loader = evaluation_loader(settings, images, config, device=device, dtype=dtype)
    logits, targets = _run(args, candidate.network, loader, device, dtype, autocast)
    problems = {}
    if isinstance(images, Marked):
        unreadable = (targets == UNREADABLE_IMAGE).nonzero().flatten().tolist()
        problems = {index: images.problem(index) for index in unreadable}
    names = names_of(images, full=args.fullname) if isinstance(images, Marked) else [
        f'{index:08d}' for index in range(len(logits))]
    for index, problem in [*problems.items()][:NAMED]:
        _logger.warning(f'{names[index]} can\'t be read: {problem}')
    if len(problems) == len(names):
        raise ValueError(f'no image can be read; the first of {len(names)} is {names[0]}: {problems[0]}')
    probabilities = logits.sigmoid() if several else logits.softmax(1)
    outputs, indices = probabilities if args.output_type == 'prob' else logits, None
    if args.topk:
        outputs, indices = outputs.topk(min(args.topk, classes))
    sureness = torch.maximum(probabilities, 1 - probabilities).mean(1) if several else probabilities.amax(1)
    return Predictions(
        name, config['input_size'][-1], images, names, outputs, indices, sureness, labels, problems)


def _candidate(args: PredictSettings, trained: Trained, config: dict, device, dtype, autocast) -> Candidate:
    """Return the network, or its sub-network, ready to run."""
    subnet, network = None, trained.network.to(device)
    settings = args.evaluation(trained.name)
    if args.width is not None:
        batches = None
        if args.train_dir and args.recalibration_batches:
            images = with_data_of_run(args.evaluation(trained.name, training=True), trained, only=OF_IMAGES)
            batches = training_batches(
                images, trained, config, num_classes=network.num_classes, device=device)
        elif args.width[0] < 1:
            _logger.warning('BatchNorm keeps its part of the full network\'s statistics, which makes sub-networks '
                            'worse: give --train-dir to measure their own on training images.')
        chosen = choose_subnets(trained, args.width, args.divisor)
        (subnet, network), = subnetworks(trained, chosen, batches, autocast=autocast).items()
    metrics = Metrics(settings, None, device=device)  # not used
    return Candidate.of(subnet, network, metrics, settings, config, device=device, dtype=dtype)


@torch.inference_mode()
def _run(args: PredictSettings, network, loader, device, dtype, autocast) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits [N, C] and the targets [N] of all images."""
    memory_format = torch.channels_last if args.channels_last else torch.preserve_format
    logits, targets = [], []
    for index, (input, target) in enumerate(loader):
        with autocast():
            output = network(input.to(device=device, dtype=dtype, memory_format=memory_format))
        output = output[0] if isinstance(output, (tuple, list)) else output
        logits.append(output.float().cpu())
        targets.append(target.cpu())
        if index % args.log_freq == 0:
            _logger.info(f'Predict: [{index:>4d}/{len(loader)}]')
    if not logits:
        raise ValueError('the data set has no images')
    return torch.cat(logits), torch.cat(targets)
