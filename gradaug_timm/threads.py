"""CPU threads of the commands: no more than the process may use at once, and none that spins while it waits.

This file is imported before torch, whose runtime reads the environment once, and imports torch itself late.
"""
import logging
import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NUMBERS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')  # environment variables with which users choose threads,
WAITING = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')  # and how these wait for each other

HELP = 'CPU threads (default: the cores or the quota that the process may use, shared by local processes)'

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Threads:
    """A number of threads, and the reason for it."""

    number: int
    reason: str


def wait_passively(environment: MutableMapping[str, str]) -> None:
    """Let threads sleep, not spin, while they wait for each other, unless the environment says how they wait.

    Spinning threads take the cores that other threads and processes need to finish: with two threads on two cores, next
    to four busy processes, a short training took 2.4 times as long.

    Args:
        environment: The environment that torch's runtime will read.
    """
    if not any(name in environment for name in WAITING):
        environment['OMP_WAIT_POLICY'] = 'PASSIVE'


def use_threads(given: int | None = None) -> Threads:
    """Set torch's number of threads for a command, and log the choice.

    Args:
        given: The number that the user wants; None chooses it.

    Returns:
        The choice.
    """
    import torch

    chosen = choose_threads(given, os.environ, default=torch.get_num_threads(), quota=cpu_quota())
    torch.set_num_threads(chosen.number)
    waiting = next((f'{name}={os.environ[name]}' for name in WAITING if name in os.environ), 'spinning')
    _logger.info(f'CPU threads: {chosen.number} ({chosen.reason}; waiting: {waiting}).')
    return chosen


def choose_threads(
        given: int | None,
        environment: Mapping[str, str],
        *,
        default: int,
        quota: float | None,
) -> Threads:
    """Return the number of threads of this process.

    Args:
        given: The number that the user wants.
        environment: The environment.
        default: torch's own choice: the physical cores that the process may run on.
        quota: CPUs that the control groups of the process allow at once; None for no limit.
    """
    if given is not None:
        return Threads(given, '--threads')
    for name in NUMBERS:
        if environment.get(name):
            return Threads(default, f'{name}={environment[name]}')
    processes = _whole(environment.get('LOCAL_WORLD_SIZE', ''))
    cores, reason = float(default), f'of {default} cores'
    if quota is not None and quota < cores:
        cores, reason = quota, f'of a quota of {quota:.3g} CPUs'
    if processes > 1:
        cores, reason = cores / processes, f'a share {reason} for {processes} processes'
    return Threads(max(1, int(cores)), reason)


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def cpu_quota(groups: str = '/proc/self/cgroup', root: str = '/sys/fs/cgroup') -> float | None:
    """Return the CPUs that control groups allow this process at once: the least of a group and those around it.

    Args:
        groups: The file that lists the groups of the process, of version 2 (`0::PATH`) and 1 (`N:cpu,cpuacct:PATH`).
        root: Where they are mounted.

    Returns:
        A number of CPUs, such as 0.5; None if there is no limit, or no control groups, as on other systems.
    """
    quotas = []
    try:
        lines = Path(groups).read_text(encoding='utf-8').splitlines()
    except OSError:
        return None
    for line in lines:
        _, names, path = line.split(':', 2)
        if names == '':
            mounts, read = ('', 'unified'), _quota_of_version_2
        elif 'cpu' in names.split(','):
            mounts, read = (names, 'cpu'), _quota_of_version_1
        else:
            continue
        for mount in mounts:
            folder = Path(root, mount, path.lstrip('/'))
            around = [each for each in (folder, *folder.parents) if each.is_relative_to(Path(root, mount))]
            quotas += [quota for each in around if (quota := read(each)) is not None]
    return min(quotas, default=None)


def _quota_of_version_2(folder: Path) -> float | None:
    try:
        quota, period = (folder / 'cpu.max').read_text(encoding='ascii').split()
        return None if quota == 'max' else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_of_version_1(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f'cpu.cfs_{name}_us').read_text(encoding='ascii'))
                         for name in ('quota', 'period'))
        return quota / period if quota > 0 else None
    except (OSError, ValueError):
        return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's operations on one thread within the context, as is fastest for small ones."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
