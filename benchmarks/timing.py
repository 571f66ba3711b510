"""Timing of alternatives, in turns in one process."""
import statistics
import time
from collections.abc import Callable

import torch

Times = dict[str, list[float]]  # seconds of each repetition, by name


def take_turns(runs: dict[str, Callable[[int], object]], *, repeats: int, warmup: int, device: torch.device) -> Times:
    """Call each of `runs` with the number of the repetition, `repeats` times in turns, and return the times.

    On CUDA times are measured between events, and the host waits for the device only at the end.

    Args:
        runs: Name -> function that is timed.
        repeats: Number of timed repetitions.
        warmup: Number of repetitions before these; they get the same numbers, from 0.
        device: Device that does the work.
    """
    for number in range(warmup):
        for run in runs.values():
            run(number)
    stopwatch = _EventWatch() if device.type == 'cuda' else _ClockWatch()
    for number in range(repeats):
        for name, run in runs.items():
            stopwatch.time(name, lambda run=run, number=number: run(number))
    return stopwatch.times()


def ratio(times: Times, above: list[str], below: list[str]) -> float:
    """Return the median over repetitions of the sum of some times, divided by the sum of others."""
    sums = ([sum(values) for values in zip(*(times[name] for name in names))] for names in (above, below))
    return statistics.median(a / b for a, b in zip(*sums))


def medians(times: Times) -> dict[str, float]:
    """Return the median of each, in milliseconds."""
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


class _ClockWatch:
    def __init__(self):
        self._times: Times = {}

    def time(self, name: str, run: Callable[[], object]) -> None:
        start = time.perf_counter()
        run()
        self._times.setdefault(name, []).append(time.perf_counter() - start)

    def times(self) -> Times:
        return self._times


class _EventWatch:
    def __init__(self):
        self._events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {}

    def time(self, name: str, run: Callable[[], object]) -> None:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        self._events.setdefault(name, []).append((start, end))

    def times(self) -> Times:
        torch.cuda.synchronize()
        return {name: [start.elapsed_time(end) / 1e3 for start, end in events] for name, events in self._events.items()}
