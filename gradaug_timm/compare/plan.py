"""The runs of a comparison: which there are, how long they train, and which of them fit into a given time."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..flags import as_given
from ..training.arguments.settings import TrainSettings
from ..training.unusual import STEP
from .arguments import CompareSettings
from .cost import Cost
from .methods import Method

# Settings in epochs, which are stretched with the schedule.
IN_EPOCHS = ('warmup_epochs', 'cooldown_epochs', 'decay_epochs', 'mixup_off_epoch',
             'gradaug_off_epoch', 'gradaug_size_epochs', 'val_interval')


@dataclass(frozen=True)
class Planned:
    """A run of a comparison.

    Args:
        name: The name of its folder.
        method: Name of the method.
        compute: Its computation, as a multiple of plain training.
        seed: The seed.
        epochs: The epochs that it trains.
        seconds: Expected seconds of training.
        flags: Its command line after `train.py`.
    """
    name: str
    method: str
    compute: float
    seed: int
    epochs: int
    seconds: float
    flags: tuple[str, ...]


def shared_flags(settings: CompareSettings, method: Method) -> tuple[str, ...]:
    """Return the command line that all runs of a method have in common."""
    return ('-c', settings.base, *method.files, *settings.flags, *method.flags)


def plan_runs(
        settings: CompareSettings,
        methods: Sequence[Method],
        resolved: Mapping[str, TrainSettings],
        costs: Mapping[str, Cost],
        *,
        epochs: int,
        folder: str,
) -> list[Planned]:
    """Return all runs: seed by seed, so that a comparison that is cut off has whole seeds.

    Args:
        settings: The settings of the comparison.
        methods: The methods.
        resolved: The settings of a run of each method.
        costs: The cost of each method.
        epochs: Epochs of plain training at compute 1.
        folder: The folder of the runs.
    """
    found = []
    for seed in settings.seeds:
        for compute in settings.compute:
            for method in methods:
                cost = costs[method.name]
                length = stretched_epochs(epochs, compute, cost.relative)
                name = f'{method.name}-c{compute:g}-s{seed}'
                found.append(Planned(
                    name=name,
                    method=method.name,
                    compute=compute,
                    seed=seed,
                    epochs=length,
                    seconds=cost.seconds * length,
                    flags=(*shared_flags(settings, method), *stretched(resolved[method.name], length),
                           '--seed', str(seed), '--output', folder, '--experiment', name, '--resume', 'auto'),
                ))
    return found


def stretched_epochs(epochs: int, compute: float, cost: float) -> int:
    """Return the number of epochs, at least 1, whose cost is nearest to `compute` times `epochs` of plain training."""
    return max(1, round(epochs * compute / cost))


def stretched(settings: TrainSettings, epochs: int) -> list[str]:
    """Return the flags that stretch a schedule to `epochs`, with all settings that count epochs."""
    factor = epochs / settings.epochs
    values: dict[str, Any] = {'epochs': epochs}
    for name in (*IN_EPOCHS, *(['patience_epochs'] if settings.sched == 'plateau' else [])):
        value = getattr(settings, name) or (STEP if name == 'decay_epochs' and settings.sched == 'step' else None)
        if value and max(1, round(value * factor)) != value:
            values[name] = max(1, round(value * factor))
    if settings.sched == 'multistep' and factor != 1:
        values['decay_milestones'] = tuple(round(each * factor) for each in settings.decay_milestones)
    return [word for name, value in values.items() for word in as_given(name, value).split(' ')]


def of_shard(runs: Sequence[Planned], part: int, parts: int) -> list[Planned]:
    """Return part `part` (from 1) of `parts` of about the same length: each run goes to the shortest so far."""
    found: list[list[Planned]] = [[] for _ in range(parts)]
    for run in sorted(runs, key=lambda run: -run.seconds):
        min(found, key=lambda some: sum(each.seconds for each in some)).append(run)
    chosen = set(found[part - 1])
    return [run for run in runs if run in chosen]


def that_fit(runs: Sequence[Planned], seconds: float, jobs: int) -> list[Planned]:
    """Return the runs of the first seeds that end within a time; nothing if one seed is too long."""
    fitting: list[Planned] = []
    for seed in dict.fromkeys(run.seed for run in runs):
        more = [*fitting, *(run for run in runs if run.seed == seed)]
        if duration_of(more, jobs) > seconds:
            break
        fitting = more
    return fitting


def duration_of(runs: Sequence[Planned], jobs: int) -> float:
    """Return the seconds of runs, `jobs` at a time and each as fast as alone."""
    free = [0.] * jobs
    for run in runs:
        free[free.index(min(free))] += run.seconds
    return max(free)
