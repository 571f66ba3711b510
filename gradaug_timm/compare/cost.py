"""The cost of a method's step, relative to plain training."""
import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from ..task.compile_limit import CompilationError
from ..training.arguments.settings import TrainSettings
from ..training.dry_run.trial import MemoryShortageError, measure, shares
from ..training.loop.between_steps import DataError
from ..training.loop.nonfinite import DivergedError
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

    Raises:
        ValueError: A method cannot be trained; the message names it.
    """
    logging.disable(logging.WARNING)
    try:
        runs = {}
        for name, each in settings.items():
            with _named(name):
                runs[name] = prepare(each, '', start_process(each.device))
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
        turns.append({})
        for name, run in runs.items():
            with _named(name):
                turns[-1][name] = _seconds_an_epoch(run)
    return turns


@contextmanager
def _named(method: str) -> Iterator[None]:
    """Let errors of training name the method."""
    try:
        yield
    except (CompilationError, DataError, DivergedError, MemoryShortageError, ValueError) as error:
        raise ValueError(f'{method}: {error}') from error


def _seconds_an_epoch(run: Run) -> float:
    measured, each = measure(run), shares(run)
    return run.updates * measured.seconds_an_update(statistics.mean(each))
