"""Whether a run continues what its checkpoint began."""
import argparse
from collections.abc import Callable, Iterator
from dataclasses import fields

from ..settings import GradAugSettings
from .arguments.checks import model_name
from .arguments.gradaug import PREFIX
from .networks import drop_block_rises, regularizer_settings
from .position import Position

ORDER = ('seed', 'batch_size', 'grad_accum_steps', 'epoch_repeats', 'aug_repeats', 'labels_per_class')


def check_continues(
        args: argparse.Namespace,
        settings: GradAugSettings | None,
        settings_for: Callable[[argparse.Namespace], GradAugSettings],
        path: str,
        state,
) -> None:
    """Compares the flags with those that `state`, the content of the checkpoint, was trained with.

    Args:
        args: The flags.
        settings: The settings of GradAug; None where it is off.
        settings_for: Gives the settings that flags would have for this network and image size.
        path: The checkpoint.
        state: Its content.

    Raises:
        ValueError: Model, optimizer, regularisers or settings of GradAug are others.
    """
    saved = state.get('args') if isinstance(state, dict) else None
    if saved is None:
        return
    found = [
        *_differences(args, saved, 'optimizer' in state),
        *_regularizer_differences(args, saved),
        *_gradaug_differences(args, saved, settings, settings_for),
    ]
    if found:
        raise ValueError('; '.join(f'{flag}: the checkpoint {path} was trained with {was}' for flag, was in found))


def check_exact(args: argparse.Namespace, world_size: int, start: Position, path: str, state: dict) -> None:
    """Compares what the order of images follows from, where a run goes on within an epoch.

    Args:
        args: The flags.
        world_size: Number of processes.
        start: Where the run goes on.
        path: The checkpoint.
        state: Its content.

    Raises:
        ValueError: The rest of the epoch would be another one.
    """
    if not start.batch:
        return
    pairs = [(f'--{name.replace("_", "-")}', getattr(args, name), getattr(state['args'], name)) for name in ORDER]
    found = [f'{flag} {ours} (was {theirs})' for flag, ours, theirs in [
        *pairs, ('processes:', world_size, state['world_size'])] if ours != theirs]
    if found:
        raise ValueError(
            f'--resume {path} stopped within epoch {start.epoch}, whose rest changes with {", ".join(found)}; keep '
            f'them or repeat the epoch by --start-epoch {start.epoch}')


def _differences(args, saved: argparse.Namespace, has_optimizer: bool) -> Iterator[tuple[str, str]]:
    if model_name(args.model) != model_name(saved.model):
        yield f'--model {args.model}', saved.model
    if has_optimizer and not args.no_resume_opt and args.opt.lower() != saved.opt.lower():
        yield f'--opt {args.opt}', f'{saved.opt} (--no-resume-opt leaves its state out)'


def _regularizer_differences(args, saved) -> Iterator[tuple[str, str]]:
    if 'shake_drop' not in saved:  # timm's own checkpoints don't have it
        return
    ours, theirs = regularizer_settings(args), regularizer_settings(saved)
    for name in {**ours, **theirs}:
        if ours.get(name) != theirs.get(name):
            yield f'--{name.replace("_", "-")} {_describe(ours.get(name))}', _describe(theirs.get(name))
    both = 'paper_drop_block' in ours and 'paper_drop_block' in theirs
    if both and drop_block_rises(args) != drop_block_rises(saved):
        schedules = ['linear' if drop_block_rises(which) else 'constant' for which in (args, saved)]
        yield f'--paper-drop-block-schedule {schedules[0]}', schedules[1]


def _describe(settings: dict | None) -> str:
    return 'off' if settings is None else ' '.join(f'{name}={_show(value)}' for name, value in settings.items())


def _gradaug_differences(args, saved, settings: GradAugSettings | None, settings_for) -> Iterator[tuple[str, str]]:
    before = getattr(saved, 'gradaug', None)  # timm's own checkpoints don't have it
    if before is None:
        return
    if before != args.gradaug:
        yield ('--gradaug', 'no GradAug') if args.gradaug else ('--no-gradaug', 'GradAug')
    elif settings is not None:
        old = settings_for(argparse.Namespace(**{**vars(saved), 'channels_last': args.channels_last}))
        for name in (field.name for field in fields(settings)):
            ours, theirs = getattr(settings, name), getattr(old, name)
            if ours != theirs and PREFIX + name in args:
                yield f'--gradaug-{name.replace("_", "-")} {_show(ours)}', _show(theirs)


def _show(value) -> str:
    return ' '.join(map(_show, value)) or 'none' if isinstance(value, tuple) else f'{value}'
