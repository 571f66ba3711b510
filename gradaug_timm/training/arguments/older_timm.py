"""Flags and values of older versions of timm's train.py, and what they are today."""
import argparse
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.models import is_model, is_model_in_modules

from ...cli import StrictParser, flag

AOT = 'timm removed it in 0.8.20'
APEX = 'torch\'s mixed precision instead of APEX\'s'
OPTIMIZERS = {  # former names of optimizers with the same updates
    'adanp': 'adan',
    'fusedmomentum': 'momentum',
    'nvnovograd': 'novograd',
}
FUSED = ('fusedadam', 'fusedadamw', 'fusedlamb', 'fusednovograd', 'fusedsgd')  # they need APEX
METRICS = {'prec1': 'top1', 'prec5': 'top5'}
OLDER_VALIDATION_FLAGS = dict(  # the same for validate.py
    native_amp=0, apex_amp=0, amp_impl=None, no_test_pool=0, legacy_jit=0)
OLDER_FLAGS = dict(  # the flags that train.py has no longer, with the number of their values
    native_amp=0, apex_amp=0, amp_impl=None, jsd=0, bn_tf=0, num_gpu=None, validation_batch_size_multiplier=None,
    aot_autograd=0)
RUNTIME = (  # what older scripts add to the arguments that they store in checkpoints
    'dist_backend', 'dist_url', 'distributed', 'gpu', 'rank', 'world_size',
)


@dataclass(frozen=True)
class Older:
    """What a key of an older version of timm is today.

    Args:
        reason: Why, in a few words.
        settings: Today's settings; empty if the key asks for nothing that today's defaults do not do.
        rejected: Whether the key asks for something that does not exist any more.
    """

    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    rejected: bool = False


def older(key: str, value: Any, others: Mapping[str, Any]) -> Older | None:
    """Return what a key with this value is today; None if today's flags have it.

    Args:
        key: A key of a YAML file, or a flag.
        value: The value, as it is written.
        others: All keys of the same file or command line.
    """
    read = _READERS.get(key)
    return read(value, others) if read is not None else None


def has_apex() -> bool:
    """Return whether APEX, which fused optimizers need, is installed and can be used."""
    return importlib.util.find_spec('apex') is not None and torch.cuda.is_available()


def rejection(key: str, value: Any, found: Older) -> str:
    """Return why a key is rejected, in one line."""
    return f'{key}: {_written(value)} is not supported: {found.reason}'


def note(key: str, value: Any, found: Older) -> str:
    """Return what a key is today, in a few words."""
    today = ', '.join(f'{name}: {_written(each)}' for name, each in found.settings.items())
    return f'{key}: {_written(value)}{f" -> {today}" if today else ""} ({found.reason})'


def _written(value: Any) -> str:
    return 'null' if value is None else str(value).lower() if isinstance(value, bool) else str(value) or "''"


def apply_older(parser: StrictParser, *namespaces: argparse.Namespace) -> None:
    """Set what the given flags of older versions are today; end the program if they are nothing today.

    Args:
        parser: The parser, which has kept the flags, and gets a line for the log.
        namespaces: The values to set; the last one has all flags.
    """
    notes = []
    for name, value in parser.older.items():
        found = older(name, value, vars(namespaces[-1]))
        if found is None or found.rejected:
            parser.error(rejection(flag(name), value, found or Older('unknown')))
        for namespace in namespaces:
            vars(namespace).update(found.settings)
        notes.append(note(flag(name), value, found))
    if notes:
        parser.notes[f'Flags of an older timm: {"; ".join(notes)}'] = None


def _amp(reason: str) -> Callable[[Any, Mapping], Older]:
    return lambda value, others: Older(reason, {'amp': True}) if value else Older('off, as today')


def _amp_impl(value: Any, others: Mapping) -> Older:
    if value in (None, '', 'native'):
        return Older('torch\'s mixed precision, the only one today')
    if value == 'apex':
        return Older(APEX if others.get('amp') else 'without amp')
    return Older(f'{value} is unknown; timm knew native and apex', rejected=True)


def _jsd(value: Any, others: Mapping) -> Older:
    return Older('renamed', {'jsd_loss': True}) if value else Older('off, as today')


def _bn_tf(value: Any, others: Mapping) -> Older:
    """TensorFlow's momentum and epsilon, which timm gave to EfficientNets and their relatives only."""
    if not value:
        return Older('off, as today')
    model = str(others.get('model') or '').removeprefix('gradaug_')
    if is_model(model) and not is_model_in_modules(model, ['efficientnet', 'mobilenetv3', 'hardcorenas']):
        return Older(f'timm ignored it for {model}')
    given = {'bn_momentum': 0.01, 'bn_eps': 1e-3}
    return Older('TensorFlow\'s values', {name: each for name, each in given.items() if others.get(name) is None})


def _num_gpu(value: Any, others: Mapping) -> Older:
    if str(value) in ('None', '0', '1'):
        return Older('one process trains on one device')
    return Older(f'start the processes with torchrun --nproc-per-node {value}', rejected=True)


def _validation_batch_size(value: Any, others: Mapping) -> Older:
    if str(value) in ('None', '1'):
        return Older('as many images as in training, as today')
    try:
        return Older('batch_size times the factor', {'validation_batch_size': int(others['batch_size']) * int(value)})
    except (KeyError, TypeError, ValueError):
        return Older('use validation_batch_size, the number of images', rejected=True)


def _aot_autograd(value: Any, others: Mapping) -> Older:
    return Older(f'{AOT}; use torchcompile: inductor', rejected=True) if value else Older('off, as today')


def _prefetcher(value: Any, others: Mapping) -> Older:
    return Older('on, as today') if value else Older('renamed', {'no_prefetcher': True})


def _optimizer(value: Any, others: Mapping) -> Older | None:
    prefix, _, name = str(value).lower().rpartition('_')
    other = OPTIMIZERS.get(name)
    return Older('renamed', {'opt': f'{prefix}_{other}' if prefix else other}) if other else None


def _metric(value: Any, others: Mapping) -> Older | None:
    today = METRICS.get(str(value))
    return Older('renamed', {'eval_metric': today}) if today else None


def _device(value: Any, others: Mapping) -> Older | None:
    """`cuda` is the default since 0.9.16; timm falls back to the CPU without CUDA."""
    if value not in ('cuda', 'cuda:0') or torch.cuda.is_available():
        return None
    return Older('timm\'s default; there is no CUDA here')


_READERS: dict[str, Callable[[Any, Mapping], Older | None]] = {
    'native_amp': _amp('renamed'),
    'apex_amp': _amp(APEX),
    'amp_impl': _amp_impl,
    'jsd': _jsd,
    'bn_tf': _bn_tf,
    'num_gpu': _num_gpu,
    'validation_batch_size_multiplier': _validation_batch_size,
    'aot_autograd': _aot_autograd,
    'prefetcher': _prefetcher,
    'no_test_pool': lambda value, others: Older('off, as today'),
    'legacy_jit': lambda value, others: Older('TorchScript is deprecated; use torchcompile', rejected=bool(value)),
    'opt': _optimizer,
    'eval_metric': _metric,
    'device': _device,
    **{name: lambda value, others: Older('set at run time') for name in RUNTIME},
}
