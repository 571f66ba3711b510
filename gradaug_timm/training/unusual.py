"""What is unusual in a run, found before the first epoch: flags without effect, and schedules that the run cuts off."""
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from timm.data import resolve_data_config
from timm.task import TrainingTask
from timm.utils import unwrap_model
from torch import nn

from ..data.by_name import same_names
from ..data.class_names import own_names
from ..flags import as_given, idle_settings
from ..task.settings import GradAugSettings
from ..upstream import teacher_of
from .arguments.conditions import WARMED_UP
from .arguments.config import COMMAND_LINE
from .arguments.gradaug import PREFIX
from .arguments.settings import LoopSettings, TrainSettings
from .arguments.timm_versions import was_default
from .checkpoints.names import names_in
from .run import Run

REMAINING = 0.05  # share of the first weights in the moving average from which a warning is due
STEP = 90  # timm's default interval of the schedule `step`


def warnings(run: Run) -> Iterator[str]:
    """Yield one line for each thing that is unusual in a run."""
    if run.start.epoch >= run.end_epoch:
        return
    idle = ', '.join(f'{name} ({reason})' for name, reason in _surprising(run))
    if idle:
        yield f'Without effect: {idle}.'
    if isinstance(run.args, TrainSettings):
        yield from class_warnings(run.args, run.task, run.loaders.class_names, resumed=run.resumed_from is not None)
    yield from schedule_warnings(run.args, run.end_epoch)
    yield from average_warnings(run.args, run.updates * run.end_epoch)


def _surprising(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the flags without effect; of files, only those that surprise.

    An args.yaml holds former defaults of timm, and a file may hold settings of GradAug that --no-gradaug turns off.
    """
    values = all_values(run)
    given = values['given']
    turned_off = 'gradaug' in given and not values['gradaug']
    for name, reason in idle_settings(type(run.args), values, given):
        expected = was_default(name, values[name]) or (turned_off and name.startswith(PREFIX))
        if given[name] == COMMAND_LINE or not expected:
            yield as_given(name, values[name]), reason


def class_warnings(
        args: TrainSettings,
        task: TrainingTask,
        names: Sequence[str] | None,
        *,
        resumed: bool = False,
) -> Iterator[str]:
    """Yield one line for each network whose outputs stand for other classes than the labels of the data.

    Args:
        args: The settings.
        task: The task, with the network and perhaps its teacher.
        names: The names of the classes of the data; None if they are unknown.
        resumed: Whether the run is resumed, so that the network is its own.
    """
    if args.initial_checkpoint and not resumed:
        path = args.initial_checkpoint
        yield from _other_classes(f'--initial-checkpoint {path}', names_in(path), names)
    elif args.pretrained and not args.pretrained_path and not resumed:
        yield from _other_classes(f'--model {args.model}', own_names(unwrap_model(task.get_trainable_module())), names)
    if args.kd_model_name and args.kd_distill_type != 'feature':
        taught = names_in(args.kd_checkpoint) if args.kd_checkpoint else own_names(teacher_of(task))
        yield from _other_classes(f'The teacher {args.kd_checkpoint or args.kd_model_name}', taught, names)


def _other_classes(what: str, theirs: Sequence[str] | None, ours: Sequence[str] | None) -> Iterator[str]:
    if theirs is None or ours is None or len(theirs) != len(ours) or same_names(theirs, ours):
        return
    place = next(label for label, (their, our) in enumerate(zip(theirs, ours)) if their != our)
    kind = 'the classes in another order' if {*theirs} == {*ours} else 'other classes'
    yield (f'{what} has {kind} than the data: its output {place} is {theirs[place] or "unnamed"}, label {place} is '
           f'{ours[place] or "unnamed"}.')


def schedule_warnings(args: LoopSettings, end: int) -> Iterator[str]:
    """Yield one line for each part of the learning rate schedule that lies beyond the end of the run.

    Args:
        args: The settings, with a learning rate.
        end: The number of epochs after which the run ends.
    """
    if args.warmup_epochs >= end and not WARMED_UP.holds(vars(args)):
        lr = args.lr or 0
        share = (end - (not args.sched_on_updates)) / args.warmup_epochs
        yield (f'The run ends after {_epochs(end)}, within the warm-up of --warmup-epochs {args.warmup_epochs}: the '
               f'learning rate begins at --warmup-lr {args.warmup_lr:g}, rises to '
               f'{args.warmup_lr + share * (lr - args.warmup_lr):.3g} and never reaches {lr:g}. '
               f'Set --warmup-epochs {end // 10}.')
    if args.sched == 'step' and (args.decay_epochs or STEP) >= end:
        yield f'The learning rate never falls: --decay-epochs {args.decay_epochs or STEP:g} is beyond {_epochs(end)}.'
    beyond = [epoch for epoch in args.decay_milestones if epoch >= end]
    if args.sched == 'multistep' and beyond:
        what = 'The learning rate never falls' if len(beyond) == len(args.decay_milestones) else 'Some steps are missed'
        yield f'{what}: --decay-milestones {" ".join(map(str, beyond))} is beyond {_epochs(end)}.'
    if args.sched == 'plateau' and args.patience_epochs >= end:
        yield (f'The learning rate never falls: --patience-epochs {args.patience_epochs} is not over after '
               f'{_epochs(end)}.')
    if args.cooldown_epochs and args.sched in ('cosine', 'tanh', 'poly', 'wsd', 'rsqrt'):
        if args.stop_epoch is not None and args.stop_epoch <= args.epochs:
            yield (f'--cooldown-epochs {args.cooldown_epochs} is not reached: --stop-epoch {args.stop_epoch} ends '
                   'before.')
        elif args.cooldown_epochs >= args.epochs:
            yield (f'{args.cooldown_epochs} of the {end} epochs are --cooldown-epochs, at --min-lr {args.min_lr:g}; '
                   f'the schedule itself has --epochs {args.epochs}.')
    if args.gradaug and args.gradaug_size_epochs and args.gradaug_size_epochs > end:
        yield (f'Sub-networks never use all image sizes: --gradaug-size-epochs {args.gradaug_size_epochs} is beyond '
               f'{_epochs(end)}.')
    late = [epoch for epoch in args.save_epochs or () if epoch > end]
    if late:
        yield f'--save-epochs {" ".join(map(str, late))} is beyond {_epochs(end)}.'


def average_warnings(args: LoopSettings, updates: int) -> Iterator[str]:
    """Yield one line if the moving average still holds much of the first weights after so many updates."""
    if not args.model_ema or args.model_ema_warmup:
        return  # the warm-up forgets the first weights within the first updates
    share = args.model_ema_decay ** max(updates - 1, 0)
    if share > REMAINING:
        fitting = fitting_decay(updates)
        other = f', or --model-ema-decay {fitting:g}' if fitting > 0 else ''
        followed = '' if args.model_ema_force_cpu else ', and validation and the best checkpoint follow the average'
        yield (f'After {updates:,} updates, {share:.0%} of the moving average (--model-ema-decay '
               f'{args.model_ema_decay:g}) is still the first weights{followed}. Add --model-ema-warmup{other}.')


def fitting_decay(updates: int) -> float:
    """Return a decay, rounded down, with which at most 1 % of the first weights remain; 0 if there is none."""
    if updates < 2:
        return 0.
    rest = 1 - 0.01 ** (1 / (updates - 1))
    digit = 10 ** math.floor(math.log10(rest))
    return max(1 - math.ceil(rest / digit) * digit, 0.)


def _epochs(number: int) -> str:
    return f'{number} epoch{"" if number == 1 else "s"}'


def all_values(run: Run) -> dict[str, Any]:
    """Return all settings of the run by name, with further values that the rules for unusual settings need.

    `given` maps the settings that were set to their origins.
    """
    args, process = run.args, run.process
    given = dict(args.origins)
    settings = run.facts['gradaug'] or {}
    filled = filled_in(args, settings)
    return {
        **vars(args),
        **{f'{PREFIX}{name}': value for name, value in settings.items()},
        **data_values(args, unwrap_model(run.task.get_trainable_module())),
        'input_size': tuple(run.facts['input_size']),
        'loss': getattr(args, 'loss', None) or ('bce' if getattr(args, 'task', None) == 'multilabel' else 'ce'),
        'device': process.device.type,
        'processes': process.world_size,
        'batch': args.batch_size * process.world_size * args.grad_accum_steps,
        'end_epoch': run.end_epoch,
        'given': given,
        'filled_in': filled,
    }


def data_values(args: LoopSettings, network: nn.Module) -> dict[str, Any]:
    """Return the input configuration, and whether residual branches start at zero; nothing for detectors."""
    if not isinstance(args, TrainSettings):
        return {}
    config = resolve_data_config(vars(args), model=network)
    parameter = inspect.signature(type(network).__init__).parameters.get('zero_init_last')
    return {
        'interpolation': config['interpolation'],
        'crop_pct': config['crop_pct'],
        'zero_init_last': args.model_kwargs.get('zero_init_last', parameter.default if parameter else False),
    }


def filled_in(args: LoopSettings, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings that differ from their defaults without being set, and from where they follow."""
    default = GradAugSettings()
    source = '--gradaug-budget' if args.gradaug_budget else 'preset'
    found = {
        f'{PREFIX}{name}': source for name, value in settings.items()
        if hasattr(args, f'{PREFIX}{name}') and f'{PREFIX}{name}' not in args.origins
        and value != getattr(default, name)}
    return found if 'lr' in args.origins else {'lr': '--lr-base', **found}
