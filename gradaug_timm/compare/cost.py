"""The cost of a method's step, relative to plain training."""
import logging
import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

from ..training.arguments.settings import TrainSettings
from ..training.dry_run.trial import measure, shares
from ..training.prepare import prepare
from ..training.processes import start_process
from ..training.run import Run
from .methods import BASELINE

TURNS, MOST_TURNS = 5, 25  # measurements of each method
LONG_ENOUGH = 10.  # seconds of measurement for a method, after which there are no more turns


class Cost(NamedTuple):
    """The cost of training with a method.

    Args:
        relative: The cost relative to the baseline, which is 1.
        seconds: Seconds of an epoch here, without validation.
    """
    relative: float
    seconds: float


def measure_costs(settings: Mapping[str, TrainSettings], *, by_time: bool) -> dict[str, Cost]:
    """Measure a few steps of each method, in turns, on its own batches.

    Args:
        settings: The settings of a dry run of each method, the baseline among them.
        by_time: Whether the time of a step counts, or its multiply-adds.

    Returns:
        The cost of each method. By time, it is the median over the turns of the ratio to the baseline in that turn.
    """
    logging.disable(logging.WARNING)
    try:
        runs = {name: prepare(each, '', start_process(each.device)) for name, each in settings.items()}
        turns = _take_turns(runs)
    finally:
        logging.disable(logging.NOTSET)
    costs = {}
    for name, run in runs.items():
        ratio = statistics.median(turn[name] / turn[BASELINE] for turn in turns)
        costs[name] = Cost(ratio if by_time else run.facts['relative_cost'],
                           statistics.median(turn[name] for turn in turns))
    return costs


def _take_turns(runs: Mapping[str, Run]) -> list[dict[str, float]]:
    """Return the seconds of an epoch of each run, by turn."""
    turns: list[dict[str, float]] = []
    started = time.monotonic()
    while len(turns) < TURNS or (
            len(turns) < MOST_TURNS and time.monotonic() - started < LONG_ENOUGH * len(runs)):
        turns.append({name: _seconds_an_epoch(run) for name, run in runs.items()})
    return turns


def _seconds_an_epoch(run: Run) -> float:
    measured, each = measure(run), shares(run)
    return run.updates * measured.seconds_an_update(statistics.mean(each))
