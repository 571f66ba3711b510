"""Checks of settings that exclude each other, and settings that follow from others."""
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from timm.loss import LOSS_TYPES, create_classification_loss
from timm.optim import get_optimizer_info
from timm.task import ClassificationEvaluator, MultiLabelClassificationEvaluator

from ...cli import flag
from ...confusion import confusion_problems
from ...data.modes import mode_problems
from ...flags import as_given
from ...models.creation import name_problem
from .criteria import loss_settings, mixing_active
from .device_augment import device_augment_problems
from .gradaug import given_flags
from .optimization import ScheduleSettings
from .run import RunSettings
from .settings import TrainSettings

DEFAULT_OUTPUT = './output/train'
LOGGERS = ('tensorboard', 'trackio', 'wandb')


def resolve(args: TrainSettings) -> TrainSettings:
    """Return the settings, with those that follow from others filled in.

    Raises:
        ValueError: Some settings exclude each other; the message names all problems.
    """
    completed, found = completed_with_problems(args)
    if found:
        raise ValueError('; '.join(found))
    return completed


def completed_with_problems(args: TrainSettings) -> tuple[TrainSettings, list[str]]:
    """Return the settings, with those that follow from others filled in, and one line for each problem."""
    completed = replace(args, **completions(vars(args)))
    return completed, list(problems(completed, gradaug_asked=args.gradaug))


def completions(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that follow from others, by name."""
    task, loss = given['task'], given['loss']
    multi_label = task == 'multilabel'
    found = {
        'data_dir': given['data_dir'] or given['data'],
        'loss': loss if loss is not None else 'jsd' if given['jsd_loss'] else 'bce' if given['bce_loss'] else None,
        'smoothing': (0. if multi_label else 0.1) if given['smoothing'] is None else given['smoothing'],
        'eval_metric': given['eval_metric'] or evaluator_class(task).default_metric,
        'gradaug': is_gradaug(given['model']) if given['gradaug'] is None else given['gradaug'],
        'drop_path': given['drop_connect'] if given['drop_path'] is None else given['drop_path'],
        'pretrained': given['pretrained'] or bool(given['pretrained_path']),
    }
    if given['bce_pos_weight'] is not None and given['loss_pos_weight'] is None:
        found['loss_pos_weight'] = str(given['bce_pos_weight'])
    return found


def evaluator_class(task: str) -> type[ClassificationEvaluator]:
    """Return the class that computes the validation metrics of a task."""
    return MultiLabelClassificationEvaluator if task == 'multilabel' else ClassificationEvaluator


def is_gradaug(model: str) -> bool:
    """Return whether the name of a model turns GradAug on."""
    return model_name(model).startswith('gradaug_')


def model_name(text: str) -> str:
    """Return the name of a model without a source such as `hf-hub:` and without a tag such as `.a1_in1k`."""
    return text.split(':')[-1].split('/')[-1].split('.')[0]


def problems(args: TrainSettings, *, gradaug_asked: bool | None) -> Iterator[str]:
    """Yield one line for each problem of the settings."""
    yield from _model_problems(args)
    yield from _regularizer_problems(args)
    yield from _gradaug_problems(args, gradaug_asked)
    yield from _data_problems(args)
    if args.device_augment:
        yield from device_augment_problems(args)
    yield from _loss_problems(args)
    yield from confusion_problems(args.confusion_matrix, args.task)
    if args.confusion_matrix and not args.val_split:
        yield '--confusion-matrix needs a validation split, --val-split'
    yield from schedule_problems(args)
    yield from run_problems(args)


def _model_problems(args: TrainSettings) -> Iterator[str]:
    for name, each in (('model', args.model), ('kd_model_name', args.kd_model_name)):
        problem = each and name_problem(each, flag(name))
        if problem:
            yield problem
    for name in ('initial_checkpoint', 'pretrained_path', 'kd_checkpoint', 'class_stats'):
        path = getattr(args, name)
        if path and not os.path.isfile(path):
            yield f'{flag(name)} {path} does not exist'
    if args.amp and args.model_dtype not in (None, 'float32'):
        yield f'--amp needs --model-dtype float32, not {args.model_dtype}'
    if args.sync_bn and args.split_bn:
        yield '--sync-bn and --split-bn exclude each other'
    if args.split_bn and args.aug_splits < 2 and not args.resplit:
        yield '--split-bn needs --aug-splits 2 or more, or --resplit'
    if args.kd_checkpoint and not args.kd_model_name:
        yield f'--kd-checkpoint {args.kd_checkpoint} needs --kd-model-name, the model of the teacher'


def _regularizer_problems(args: TrainSettings) -> Iterator[str]:
    for name in args.regularizer:
        if getattr(args, name, None) is not None:
            yield f'--regularizer {name} and {flag(name)} exclude each other'
    for name in ('shake_drop', 'paper_drop_block'):
        if getattr(args, name) is None:
            for key, value in vars(args).items():
                if key.startswith(f'{name}_') and value is not None:
                    yield f'{flag(key)} needs {flag(name)}'
    for name in ('shake_drop_alpha', 'shake_drop_beta'):
        low, high = getattr(args, name) or (0, 0)
        if low > high:
            yield f'{flag(name)} {low:g} {high:g} must be a range: first the lower, then the upper limit'
    if args.paper_drop_block and args.drop_block:
        yield '--paper-drop-block and --drop-block exclude each other'
    depth = {'--shake-drop': args.shake_drop, '--stoch-depth': args.stoch_depth, '--drop-path': args.drop_path or None}
    given = [flag for flag, value in depth.items() if value is not None]
    if len(given) > 1:
        yield f'{" and ".join(given)} exclude each other: all of them act on the residual branches'
    if args.stoch_depth is not None and args.torchcompile:
        yield '--stoch-depth and --torchcompile exclude each other: the graph would break at every block'
    if args.stoch_depth is not None and args.sync_bn:
        yield '--stoch-depth and --sync-bn exclude each other: processes would wait for blocks that others skip'


def _gradaug_problems(args: TrainSettings, asked: bool | None) -> Iterator[str]:
    given = ', '.join(f'--gradaug-{name.replace("_", "-")}' for name in given_flags(args))
    if given and not args.gradaug and asked is not False:
        yield f'{given} needs GradAug: add --gradaug, or use a model gradaug_*'
    if not args.gradaug:
        return
    off = 'leave out the flag, or add --no-gradaug'
    if args.kd_model_name:
        yield f'--kd-model-name is not supported with GradAug, which has soft targets of its own; {off}'
    if args.aug_splits or args.jsd_loss or args.loss == 'jsd' or args.resplit or args.split_bn:
        yield f'--aug-splits, --jsd-loss, --resplit and --split-bn divide the batch; sub-networks need all of it; {off}'
    if get_optimizer_info(args.opt.lower().removeprefix('lookahead_')).second_order:
        yield f'--opt {args.opt} needs second derivatives, which GradAug does not support; {off}'


def _data_problems(args: TrainSettings) -> Iterator[str]:
    channels = args.input_size[0] if args.input_size else args.in_chans or 3
    if args.input_size and args.in_chans not in (None, channels):
        yield f'--in-chans {args.in_chans} must equal the {channels} channels of --input-size; leave out --in-chans'
    if args.input_img_mode is not None or args.in_chans is not None or args.input_size is not None:
        yield from mode_problems(args.input_img_mode, channels)
    for name in ('mean', 'std'):
        values = getattr(args, name)
        if values is not None and len(values) not in (1, channels):
            yield f'--{name} must have 1 or {channels} values, one per channel, not {len(values)}'
    for name in ('scale', 'ratio', 'cutmix_minmax'):
        values = getattr(args, name)
        if values is not None and (len(values) != 2 or values[0] > values[1]):
            yield f'{flag(name)} {" ".join(map(str, values))} must be a range: two values, the lower one first'
    if args.aug_splits == 1:
        yield '--aug-splits 1 must be 0, or at least 2'
    if args.aug_splits and args.no_aug:
        yield f'--aug-splits {args.aug_splits} needs augmentation; leave out --no-aug'
    if args.data and args.data != args.data_dir:
        yield f'the folder of the data is given twice: {args.data} and --data-dir {args.data_dir}'
    if args.img_size and args.input_size and args.input_size[1:] != (args.img_size, args.img_size):
        yield f'--img-size {args.img_size} and {as_given("input_size", args.input_size)} exclude each other; use one'
    mixing = mixing_active(args)
    if mixing and args.aug_splits:
        yield '--aug-splits excludes --mixup and --cutmix; use one or the other'
    if mixing and args.batch_size % 2:
        yield f'--batch-size {args.batch_size} must be even for --mixup and --cutmix'
    if args.mixup_mode == 'half' and args.no_prefetcher:
        yield '--mixup-mode half must be batch, pair or elem with --no-prefetcher'
    yield from _padding_problems(args)
    if args.pca_lighting and (channels != 3 or args.input_img_mode not in (None, 'RGB') or args.no_aug):
        yield '--pca-lighting needs images with 3 channels, of mode RGB, and excludes --no-aug'
    if args.keep_last_batch and (args.train_img_sizes or args.use_multi_epochs_loader):
        yield '--keep-last-batch excludes --train-img-sizes and --use-multi-epochs-loader'
    if args.labels_per_class and args.train_fraction:
        yield '--labels-per-class and --train-fraction exclude each other'
    for name in ('labels_per_class', 'train_fraction'):
        if getattr(args, name) and args.task == 'multilabel':
            yield f'{flag(name)} needs one label per image; it does not support --task multilabel'
    for name in ('train_batch_sizes', 'train_size_probs'):
        values = getattr(args, name)
        if values and len(values) != len(args.train_img_sizes or ()):
            yield f'{flag(name)} must have as many values as --train-img-sizes'
    if args.train_img_sizes and args.use_multi_epochs_loader:
        yield '--train-img-sizes excludes --use-multi-epochs-loader'


def _padding_problems(args: TrainSettings) -> Iterator[str]:
    if args.reflect_pad and args.zero_pad:
        yield '--reflect-pad and --zero-pad exclude each other'
    for name in ('reflect_pad', 'zero_pad'):
        if getattr(args, name) and (args.no_aug or args.train_crop_mode in ('rkrc', 'rkrr')):
            yield f'{flag(name)} replaces the random resized crop; it excludes --no-aug and other --train-crop-mode'
    if (args.reflect_pad or args.zero_pad or args.pca_lighting) and (args.aug_splits or args.train_img_sizes):
        yield '--reflect-pad, --zero-pad and --pca-lighting exclude --aug-splits and --train-img-sizes'


def _loss_problems(args: TrainSettings) -> Iterator[str]:
    multi_label = args.task == 'multilabel'
    if args.target_format == 'multihot' and not multi_label:
        yield '--target-format multihot needs --task multilabel'
    if args.kd_model_name and multi_label:
        yield '--kd-model-name does not support --task multilabel; use --task classification'
    asked = {'jsd': args.jsd_loss, 'bce': args.bce_loss}
    for loss, is_asked in asked.items():
        if is_asked and args.loss != loss:
            yield f'--{loss}-loss and --loss {args.loss} exclude each other (losses: {", ".join(LOSS_TYPES)})'
    if args.loss == 'jsd' and args.aug_splits < 2:
        yield '--loss jsd compares augmentations of an image; add --aug-splits 3'
        return
    if args.class_stats and not os.path.isfile(args.class_stats):
        return  # as named above
    try:
        create_classification_loss(multi_label=multi_label, **loss_settings(args, checked=False))
    except (OSError, ValueError) as error:
        yield f'--loss {args.loss or ("bce" if multi_label else "ce")}: {error}'
    metrics = evaluator_class(args.task).metric_names
    if args.eval_metric not in metrics:
        yield f'--eval-metric {args.eval_metric} must be one of {", ".join(metrics)}'


def schedule_problems(args: ScheduleSettings) -> Iterator[str]:
    """Yield one line for each problem of the learning rate schedule."""
    for name, limit in (('start_epoch', args.epochs), ('stop_epoch', args.epochs)):
        value = getattr(args, name)
        total = limit + args.cooldown_epochs + (args.warmup_epochs if args.warmup_prefix else 0)
        if value is not None and value > total and args.lr_cycle_limit == 1:
            yield f'{flag(name)} {value} must be at most {total}, the epochs of the schedule'
    if args.sched == 'plateau' and args.sched_on_updates:
        yield '--sched plateau changes the learning rate once per epoch; leave out --sched-on-updates'
    if args.lr_noise is not None and len(args.lr_noise) > 2:
        yield f'--lr-noise must have 1 or 2 values, not {len(args.lr_noise)}'
    if list(args.decay_milestones) != sorted(set(args.decay_milestones)):
        yield f'--decay-milestones {" ".join(map(str, args.decay_milestones))} must increase'


def run_problems(args: RunSettings) -> Iterator[str]:
    """Yield one line for each problem of the files of a run."""
    output = Path(args.output or DEFAULT_OUTPUT).resolve()
    if args.experiment and output not in (output / args.experiment).resolve().parents:
        yield f'--experiment {args.experiment} must be a name inside the output folder {output}'
    if args.resume == 'auto' and not args.experiment:
        yield '--resume auto needs --experiment, the run to resume'
    elif args.resume not in ('', 'auto') and not os.path.isfile(args.resume):
        yield f'--resume {args.resume} does not exist'
    if args.checkpoint_steps and args.recovery_interval:
        yield '--checkpoint-steps and --recovery-interval exclude each other: the latter is the older spelling'
    yield from _logger_problems(args.log)
    for package in LOGGERS:
        if getattr(args, f'log_{package}') and not _is_installed(package):
            yield f'--log-{package} needs the package {package}: pip install "gradaug_timm[{package}]"'
    if args.wandb_resume_id and not args.resume:
        yield '--wandb-resume-id needs --resume'


def _logger_problems(names: Iterable[str]) -> Iterator[str]:
    """Yield one line for each logger of --log that is not registered."""
    from ..outputs.loggers.registry import LOGGERS as REGISTERED  # loggers read these settings
    for name in names:
        try:
            REGISTERED.find(name)
        except ValueError as error:
            yield f'--log: {error}'


def _is_installed(package: str) -> bool:
    """Return whether a package is installed; a folder with its name, such as wandb creates, does not count."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None
