"""What a run is and where it runs, beside its flags: `run.json`, for the comparison of runs."""
import json
import os
import platform
from dataclasses import asdict
from datetime import datetime
from types import UnionType
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.data import IterableDataset

from ...cli import one_line
from ...elastic import multiply_adds
from ...files import replacing
from ...task.settings import GradAugSettings
from ...version import __version__
from ..processes import Process

RECORD = 'run.json'
KINDS: dict[str, type | UnionType] = {
    'parameters': int, 'multiply_adds': int, 'passes': int | float, 'relative_cost': int | float, 'epochs': int,
    'sessions': list,
}
SESSION_KINDS: dict[str, type | UnionType] = {'first_epoch': int, 'device': str, 'world_size': int, 'versions': dict}


def network_facts(
        network: nn.Module,
        input_size: tuple[int, int, int],
        settings: GradAugSettings | None,
        relative_cost: float,
) -> dict:
    """Size and cost of the full network, and of a training step.

    Args:
        network: The network, below any wrapper.
        input_size: Channels, height and width of the images.
        settings: The settings of GradAug; None where it is off.
        relative_cost: Multiply-adds of a step, relative to plain training.

    Raises:
        ValueError: The network fails on an image of that size.
    """
    try:
        cost = multiply_adds(network, None, input_size)
    except (AssertionError, RuntimeError) as error:
        size, reason = 'x'.join(map(str, input_size)), one_line(error)
        raise ValueError(f'--img-size or --input-size: the network fails on images of {size} ({reason})') from error
    return {
        'parameters': sum(parameter.numel() for parameter in network.parameters()),
        'multiply_adds': cost,
        'input_size': list(input_size),
        'gradaug': None if settings is None else asdict(settings),
        'passes': 1 if settings is None else 1 + settings.subnets / settings.interval,
        'relative_cost': relative_cost,
    }


def training_images(loader) -> int | None:
    """Images an epoch; None for an iterable data set, which may not know."""
    return None if isinstance(loader.dataset, IterableDataset) else len(loader.dataset)


def session(process: Process, first_epoch: int) -> dict:
    """Time, place and versions of a run, from its start or from where it is resumed."""
    return {
        'started': datetime.now().astimezone().isoformat(timespec='seconds'),
        'first_epoch': first_epoch,
        'device': device_name(process.device),
        'world_size': process.world_size,
        'versions': {'torch': torch.__version__, 'timm': timm.__version__, 'gradaug_timm': __version__},
    }


def device_name(device: torch.device) -> str:
    """The model of a CUDA device; the kind of another."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    if device.type == 'cpu':
        threads = torch.get_num_threads()
        return f'{platform.machine()} CPU, {threads} thread{"s" if threads > 1 else ""}'
    return device.type


def write_record(folder: str, facts: dict, now: dict, *, continued: bool) -> None:
    """Writes the facts as they are now, and adds the session `now` to those of a run that is continued.

    Raises:
        ValueError: The record to continue is broken.
    """
    sessions = read_record(folder).get('sessions', []) if continued else []
    with replacing(os.path.join(folder, RECORD)) as file:
        json.dump({**facts, 'sessions': [*sessions, now]}, file, indent=2)


def read_record(folder: str) -> dict:
    """What `write_record` wrote; empty where there is none, as in folders of timm's script.

    Raises:
        ValueError: The file is broken.
    """
    path = os.path.join(folder, RECORD)
    try:
        with open(path, encoding='utf-8') as file:
            record = json.load(file)
    except FileNotFoundError:
        return {}
    except (RecursionError, ValueError) as error:
        raise ValueError(f'{path} is broken: {error}') from None
    check_kinds(path, record, KINDS)
    for part in record['sessions'] or [{}]:
        check_kinds(path, part, SESSION_KINDS)
    return record


def check_kinds(path: str, values: Any, kinds: dict[str, type | UnionType]) -> None:
    """Checks that `values`, read from the file `path`, is a mapping in which each of `kinds` has its kind.

    Raises:
        ValueError: Some are missing, or of another kind.
    """
    mapping = values if isinstance(values, dict) else {}
    wrong = [name for name, kind in kinds.items() if not isinstance(mapping.get(name), kind)]
    if wrong:
        raise ValueError(f'{path} is broken: it holds no usable {", ".join(wrong)}')
