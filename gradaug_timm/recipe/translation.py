"""Translation of a recipe, key by key."""
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..cli import Refuse, StrictParser, flag
from ..conversion import converted
from ..hints import renamed
from ..models.creation import name_problem
from ..training.arguments import TrainSettings, build_parser
from ..training.arguments.checks import completed_with_problems
from ..training.arguments.config import NOT_KEYS, check_refused
from ..training.arguments.older_timm import FUSED, has_apex, older
from ..training.arguments.timm_versions import NAMES, NEWEST, defaults_at, parsed, span
from ..training.building.optimizers import scaled_learning_rate
from ..upstream import parser_actions
from .reading import Recipe

KEPT, TRANSLATED, ADDED, DROPPED = 'kept', 'translated', 'added', 'dropped'
PATHS = ('data_dir', 'data', 'initial_checkpoint', 'resume', 'pretrained_path', 'kd_checkpoint', 'class_map')
SET_AT_RUN_TIME = ('data', 'device')  # also in the arguments that versions without these flags stored
RELEVANT = {  # settings whose former default matters only for some values of another
    'decay_epochs': lambda values: values['sched'] == 'step',
    'decay_milestones': lambda values: values['sched'] == 'multistep',
    'remode': lambda values: bool(values.get('reprob')),
}


@dataclass(frozen=True)
class Row:
    """What becomes of one key: kept, translated, added or dropped."""

    key: str
    value: Any
    verdict: str
    today: Mapping[str, Any]
    reason: str = ''


@dataclass
class Translation:
    """A recipe in today's settings.

    Args:
        source: What was translated.
        version: The version of timm whose defaults count for what the recipe does not give.
        rows: A row for each key.
        settings: Today's settings by name.
        notes: What the reader should know.
        problems: Why train.py would reject the settings as they are.
    """

    source: str
    version: str
    rows: list[Row]
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def translate(recipe: Recipe, *, version: str | None = None) -> Translation:
    """Return a recipe in today's settings.

    Args:
        recipe: The recipe.
        version: The version of timm that the recipe is for; None: the newest that has all of its flags.

    Raises:
        ValueError: The version is no version.
    """
    notes = list(recipe.notes)
    known_to_timm = [name for name in recipe.values if name in NAMES and name not in SET_AT_RUN_TIME]
    first, last = span(known_to_timm)
    if version is None and parsed(first) > parsed(last):
        notes.append(f'no timm has all of these flags (the newest is of {first}): a changed script; '
                     f'defaults of {NEWEST} are assumed')
        last = NEWEST
    chosen = version or last
    parser = build_parser()
    rows = [_row(parser, key, value, recipe.values) for key, value in recipe.values.items()]
    rows += [_unknown(parser, key, value) for key, value in recipe.unknown.items()]
    rows += _added(parser, chosen, recipe.values)
    settings: dict[str, Any] = {}
    for row in sorted(rows, key=lambda row: row.verdict != KEPT):  # a translated key overrides today's of that name
        settings.update(row.today)
    _, problems = completed_with_problems(TrainSettings.of(settings))
    notes += _batch_notes(settings, recipe.processes)
    return Translation(recipe.source, chosen, rows, settings, notes, problems)


def _row(parser: StrictParser, key: str, value: Any, others: Mapping[str, Any]) -> Row:
    found = older(key, value, others)
    if found is not None:
        verdict = TRANSLATED if found.settings else DROPPED
        return Row(key, value, verdict, dict(found.settings), found.reason)
    actions = parser_actions(parser)
    if key in NOT_KEYS:
        return Row(key, value, DROPPED, {}, 'no setting of a recipe')
    if key not in actions:
        return _unknown(parser, key, value)
    action = actions[key]
    if isinstance(action, Refuse):
        try:
            check_refused(action, value)
        except ValueError as error:
            return Row(key, value, DROPPED, {}, str(error).partition(': ')[2])
        return Row(key, value, DROPPED, {}, 'off, as today')
    try:
        today = converted(parser, action, value)
    except ValueError as error:
        return Row(key, value, DROPPED, {}, f'not a value of {flag(key)}: {str(error).removeprefix(key + ": ")}')
    if isinstance(value, str) and value.lower() in ('none', 'null') and today != value:
        return Row(key, value, TRANSLATED, {key: today}, 'no value')
    if key == 'opt' and today.lower().removeprefix('lookahead_') in FUSED and not has_apex():
        plain = today.lower().replace('fused', '')
        return Row(key, value, TRANSLATED, {key: plain}, f'{value} needs APEX, which is not installed; same updates')
    return Row(key, value, KEPT, {key: today}, _remark(key, today))


def _remark(key: str, value: Any) -> str:
    if key in PATHS and value and not os.path.exists(value):
        return 'does not exist here'
    if key == 'model':
        return (name_problem(value) or '').removeprefix(f'--model {value} ')
    return ''


def _unknown(parser: StrictParser, key: str, value: Any) -> Row:
    names = [each.name for each in fields(TrainSettings) if each.name in parser_actions(parser)]
    close = renamed(key.replace('-', '_'), names)
    return Row(key, value, DROPPED, {}, f'no flag of timm{f", did you mean {flag(close)}?" if close else ""}')


def _added(parser: StrictParser, version: str, values: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the defaults of a version of timm that have changed since, for what a recipe does not give."""
    former = defaults_at(version)
    for name, value in former.items():
        relevant = RELEVANT.get(name, lambda _: True)({**former, **values})
        same = value in (None, parser.get_default(name)) or (name, value) == ('decay_epochs', 90)
        if name not in values and relevant and not same:
            yield Row(name, None, ADDED, {name: value}, f'default of timm {version}')


def _batch_notes(settings: Mapping[str, Any], processes: int | None) -> Iterator[str]:
    """Yield how many images an update is assumed to have, and what follows for the learning rate."""
    args = TrainSettings.of(settings)
    count, accumulated = processes or 1, args.grad_accum_steps
    images = args.batch_size * count * accumulated
    parts = [f'{count} process{"es" if count > 1 else ""} of {args.batch_size}']
    parts += [f'{accumulated} batches'] if accumulated > 1 else []
    assumed = '' if processes else ' (the recipe does not tell the number of processes; one is assumed)'
    yield f'{images:,} images per update: {" times ".join(parts)}{assumed}'
    if args.lr is None:
        yield (f'the learning rate follows from --lr-base {args.lr_base:g} for {args.lr_base_size} images per update: '
               f'{scaled_learning_rate(args, images):.4g}')
    elif count > 1:
        yield (f'--lr {args.lr:g} is for {images:,} images per update: use torchrun --nproc-per-node {count}, or one '
               f'process with --grad-accum-steps {count * accumulated}')
