"""Plans on disk, so that each network is planned only once.

A plan is stored as `$GRADAUG_CACHE_DIR/plans/<fingerprint>.json`, by default below `~/.cache/gradaug_timm`. An empty
GRADAUG_CACHE_DIR turns the cache off. A damaged file is replaced by a new plan. If no file can be written, each process
plans again.
"""
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

from .fingerprint import fingerprint
from .plan import FIXED, Group, Plan, Side

VARIABLE = 'GRADAUG_CACHE_DIR'
KEPT_FILES = 256

_logger = logging.getLogger(__name__)


def cached_plan(
        network: nn.Module,
        planner: Callable[[nn.Module], Iterable[Plan]],
        make: Callable[[], Plan],
        *,
        ignored: frozenset[str] = frozenset(),
) -> Plan:
    """Return the plan of a network from the cache; if there is none, make one and write it to the cache.

    Args:
        network: The network.
        planner: The planner that `make` uses.
        make: Function that plans the network.
        ignored: Attributes of modules on which the plan does not depend.
    """
    key = fingerprint(network, planner, ignored=ignored) if os.environ.get(VARIABLE) != '' else None
    if key is None:
        return make()
    plan = _read(key, network)
    if plan is None:
        plan = make()
        _write(key, plan)
    return plan


def _path(key: str) -> Path:
    folder = os.environ.get(VARIABLE) or Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache', 'gradaug_timm')
    return Path(folder, 'plans', f'{key}.json').expanduser()


def _read(key: str, network: nn.Module) -> Plan | None:
    try:
        document = json.loads(_path(key).read_text(encoding='utf-8'))
        if document['checksum'] != _checksum(key, document['plan']):
            raise ValueError('its checksum differs')
        return _decoded(document['plan'], network)
    except FileNotFoundError:
        return None
    except Exception as error:  # a file may hold anything
        _logger.debug(f'{key}.json: the cached plan cannot be used ({error!r}).')
        return None


def _write(key: str, plan: Plan) -> None:
    """Write a plan to a temporary file, move the file into place as a whole, and delete the oldest files."""
    content = _encoded(plan)
    text = json.dumps({'checksum': _checksum(key, content), 'plan': content}, separators=(',', ':'))
    try:
        path = _path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent.parent) as aside:
            new = Path(aside, path.name)
            new.write_text(text, encoding='utf-8')
            new.replace(path)
        files = sorted(path.parent.glob('*.json'), key=lambda file: file.stat().st_mtime, reverse=True)
        for old in files[KEPT_FILES:]:
            old.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        _logger.debug(f'{key}.json: the plan cannot be cached ({error}).')


def _checksum(key: str, content: dict) -> str:
    return hashlib.sha256(f'{key} {json.dumps(content, sort_keys=True)}'.encode()).hexdigest()


def _encoded(plan: Plan) -> dict:
    """Return a plan as the content of a file; each side is written once and referred to by number."""
    numbers: dict[int, int] = {}  # id of a side -> number
    sides: dict[tuple, int] = {}

    def number(side: Side | None) -> int | None:
        if side is None:
            return None
        if id(side) not in numbers:
            runs = _runs(side.group), _runs(np.diff(side.rank, prepend=0))
            numbers[id(side)] = sides.setdefault(runs, len(sides))
        return numbers[id(side)]

    return {
        'groups': [asdict(group) for group in plan.groups],
        'tensors': {name: [number(side) for side in dims] for name, dims in plan.tensors.items()},
        'numbers': {name: [number(side) for side in counted] if isinstance(counted, tuple) else number(counted)
                    for name, counted in plan.numbers.items()},
        'blocks': list(plan.blocks),
        'frozen': sorted(plan.frozen),
        'sides': list(sides),
    }


def _decoded(content: dict, network: nn.Module) -> Plan:
    """Return the plan that the content of a file describes.

    Raises:
        Exception: The content is not a plan, or does not fit `network`.
    """
    groups = tuple(Group(**fields) for fields in content['groups'])
    _require(all(type(value) is int and value > 0 for group in groups for value in asdict(group).values()), 'groups')
    sides = [Side(_array(group), _array(steps).cumsum()) for group, steps in content['sides']]
    units = np.array([*(group.units for group in groups), np.iinfo(np.int64).max])  # the last entry is for FIXED
    for side in sides:
        _require(side.group.shape == side.rank.shape and side.group.min() >= FIXED and side.group.max() < len(groups)
                 and side.rank.min() >= 0 and (side.rank < units[side.group]).all(), 'sides')

    def numbered(number: int | None) -> Side | None:
        _require(number is None or number >= 0, 'sides')
        return None if number is None else sides[number]

    plan = Plan(
        groups,
        {name: tuple(map(numbered, dims)) for name, dims in content['tensors'].items()},
        {name: tuple(map(numbered, counted)) if isinstance(counted, list) else numbered(counted)
         for name, counted in content['numbers'].items()},
        tuple(content['blocks']),
        frozenset(content['frozen']),
    )
    _require(plan.frozen <= set(range(len(groups))), 'frozen')
    _require_fit(plan, network)
    return plan


def _require_fit(plan: Plan, network: nn.Module) -> None:
    modules = dict(network.named_modules())
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    for name, dims in plan.tensors.items():
        shape = tensors[name].shape
        _require(len(dims) == len(shape) and all(
            side is None or len(side.group) == length for side, length in zip(dims, shape)), name)
    for name, counted in plan.numbers.items():
        module, _, attribute = name.rpartition('.')
        value = vars(modules[module])[attribute]
        _require(len(counted) <= len(value) if isinstance(counted, tuple) else isinstance(counted, Side), name)
    _require(set(plan.blocks) <= modules.keys(), 'blocks')


def _require(condition: bool, name: str) -> None:
    if not condition:
        raise ValueError(f'{name}: the cached values do not fit the network')


def _runs(values: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return runs of equal values as (value, count)."""
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    return tuple(zip(values[starts].tolist(), np.diff(starts, append=len(values)).tolist()))


def _array(runs: list[list[int]]) -> np.ndarray:
    pairs = np.array(runs)
    _require(pairs.dtype == np.int64, 'sides')
    return np.repeat(*pairs.T)
