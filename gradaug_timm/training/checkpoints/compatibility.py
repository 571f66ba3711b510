"""Checks that the settings of a resumed run match the checkpoint."""
import argparse
import logging
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any, TypeVar

from ...cli import flag
from ...data.by_name import same_names
from ...data.class_names import listed, read_names
from ...flags import Role, names_of
from ...task.settings import GradAugSettings
from ..arguments.checks import model_name
from ..arguments.gradaug import PREFIX, before_presets
from ..arguments.regularizers import RegularizerSettings
from ..arguments.settings import LoopSettings
from ..building.networks import drop_block_rises, regularizer_flag, regularizer_settings
from ..position import Position
from .state import CheckpointState

_logger = logging.getLogger(__name__)

Loop = TypeVar('Loop', bound=LoopSettings)

ORIGIN = {'world_size': 'processes:', 'training_images': 'training images:'}


def check_continues(
        args: LoopSettings,
        settings: GradAugSettings | None,
        settings_for: Callable[[Any], GradAugSettings],
        path: str,
        state: CheckpointState,
) -> None:
    """Check that a checkpoint was trained with the same model, optimizer, regularisers and settings of GradAug.

    Args:
        args: The settings of the run.
        settings: The settings of GradAug; None if GradAug is off.
        settings_for: Returns the settings of GradAug that other settings of a run would give for this network and
            image size.
        path: The path of the checkpoint.
        state: The content of the checkpoint.

    Raises:
        ValueError: Model, optimizer, regularisers or settings of GradAug differ.
    """
    saved = state.args
    if saved is None:
        return
    found = [
        *_differences(args, saved, state.optimizer is not None),
        *_regularizer_differences(args, saved),
        *_gradaug_differences(args, saved, settings, settings_for),
    ]
    if found:
        raise ValueError('; '.join(f'{flag}: the checkpoint {path} was trained with {was}' for flag, was in found))


def check_same_classes(names: tuple[str, ...] | None, path: str, state: CheckpointState) -> None:
    """Check that the data set has the classes of a checkpoint, in the same order; older checkpoints do not name them.

    Args:
        names: The names of the classes in the order of labels; None if they are unknown.
        path: The path of the checkpoint.
        state: The content of the checkpoint.

    Raises:
        ValueError: Classes differ.
    """
    saved = read_names(state.class_names)
    if saved is None or names is None or same_names(names, saved):
        return
    ours = listed(name for name in names if name not in saved)
    theirs = listed(name for name in saved if name not in names)
    kind = f'other classes: {theirs or "none"} in place of {ours or "none"}' if ours or theirs else (
        f'the same classes in another order: {listed(saved)}')
    raise ValueError(f'--resume {path} was trained with {kind}; the outputs of the network would change their meaning. '
                     'Use the same classes, or number them by --class-map')


def check_exact(args: LoopSettings, origin: dict, start: Position, path: str, state: CheckpointState) -> None:
    """Check all settings that change the rest of the training; at the end of an epoch, only warn.

    Args:
        args: The settings of the run.
        origin: Number of processes and of training images, by their names in a checkpoint.
        start: Where the run resumes.
        path: The path of the checkpoint.
        state: The content of the checkpoint.

    Raises:
        ValueError: Settings differ, and the run resumes within an epoch.
    """
    found = [f'{flag} {_show(ours)} (was {_show(was)})' for flag, ours, was in _changes(args, origin, state)]
    if not found:
        return
    if not start.batch:
        _logger.warning(f'--resume {path} uses different settings than the run it resumes: {", ".join(found)}.')
        return
    raise ValueError(
        f'--resume {path} stopped within epoch {start.epoch}, but the settings differ: {", ".join(found)}; use the '
        f'same settings, or repeat the epoch with --start-epoch {start.epoch}')


def _changes(args: LoopSettings, origin: dict, state: CheckpointState) -> Iterator[tuple]:
    """Yield the name, the value, and the value in the checkpoint of each setting that differs."""
    saved = state.settings
    for name in names_of(type(args), Role.LEARNED):
        ours = getattr(args, name)
        if name in saved and _plain(ours) != _plain(saved[name]):
            yield flag(name), ours, saved[name]
    for name, title in ORIGIN.items():
        before = getattr(state, name)
        if state.world_size is not None and before != origin[name]:
            yield title, origin[name], before


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _differences(args: LoopSettings, saved: argparse.Namespace, has_optimizer: bool) -> Iterator[tuple[str, str]]:
    if model_name(args.model) != model_name(saved.model):
        yield f'--model {args.model}', saved.model
    if has_optimizer and not args.no_resume_opt and args.opt.lower() != saved.opt.lower():
        yield f'--opt {args.opt}', f'{saved.opt} (--no-resume-opt skips the optimizer\'s state)'
    elif has_optimizer and not args.no_resume_opt:
        for name in names_of(type(args), Role.OPTIMIZER):
            ours, was = getattr(args, name), getattr(saved, name, None)
            if name in saved and _plain(ours) != _plain(was):
                without = '--no-resume-opt skips the optimizer\'s state'
                yield f'{flag(name)} {_show(ours)}', f'{_show(was)} ({without})'


def _with_saved(args: Loop, saved: argparse.Namespace) -> Loop:
    """Return the settings with the values of a checkpoint for the seed and the settings of role COMPARED."""
    names = [name for name in ('seed', *names_of(type(args), Role.COMPARED)) if name in saved]
    return replace(args, **{name: getattr(saved, name) for name in names} | before_presets(vars(saved)))


def _regularizer_differences(args: LoopSettings, saved: argparse.Namespace) -> Iterator[tuple[str, str]]:
    if not isinstance(args, RegularizerSettings) or 'shake_drop' not in saved:  # timm's checkpoints lack it
        return
    before = _with_saved(args, saved)
    ours, theirs = regularizer_settings(args), regularizer_settings(before)
    for name in {**ours, **theirs}:
        if ours.get(name) != theirs.get(name):
            yield f'{regularizer_flag(name)} {_describe(ours.get(name))}', _describe(theirs.get(name))
    both = 'paper_drop_block' in ours and 'paper_drop_block' in theirs
    if both and drop_block_rises(args) != drop_block_rises(before):
        schedules = ['linear' if drop_block_rises(which) else 'constant' for which in (args, before)]
        yield f'--paper-drop-block-schedule {schedules[0]}', schedules[1]


def _describe(settings: dict | None) -> str:
    return 'off' if settings is None else ' '.join(f'{name}={_show(value)}' for name, value in settings.items())


def _gradaug_differences(
        args: LoopSettings,
        saved: argparse.Namespace,
        settings: GradAugSettings | None,
        settings_for: Callable[[Any], GradAugSettings],
) -> Iterator[tuple[str, str]]:
    before = getattr(saved, 'gradaug', None)  # timm's checkpoints lack it
    if before is None:
        return
    if before != args.gradaug:
        yield ('--gradaug', 'no GradAug') if args.gradaug else ('--no-gradaug', 'GradAug')
    elif settings is not None:
        old = settings_for(_with_saved(args, saved))
        for name in (field.name for field in fields(settings)):
            ours, theirs = getattr(settings, name), getattr(old, name)
            if ours != theirs and hasattr(args, PREFIX + name):
                yield f'--gradaug-{name.replace("_", "-")} {_show(ours)}', _show(theirs)
        ours, theirs = (getattr(each, 'gradaug_targets', None) for each in (args, saved))  # only in detection
        if ours is not None and theirs is not None and ours != theirs:
            yield f'--gradaug-targets {ours}', theirs


def _show(value) -> str:
    return ' '.join(map(_show, value)) or 'none' if isinstance(value, (list, tuple)) else f'{value}'
