"""Making the runs of a comparison, some at a time, each in a process of its own."""
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

from ..report.runs import RunData, read_run
from .plan import Planned

START = 'from gradaug_timm.training.main import main; main()'


def finished(folder: str, run: Planned) -> RunData | None:
    """Return the data of a run that has been made; None if it is not finished, or not as long as planned."""
    try:
        data = read_run(os.path.join(folder, run.name))
    except (OSError, ValueError):
        return None
    return data if data.rows and data.finished and data.flags['epochs'] == run.epochs else None


def make_runs(runs: Sequence[Planned], folder: str, *, jobs: int) -> Iterator[tuple[Planned, str]]:
    """Make runs, `jobs` at a time, and yield each as it ends, with its error in one line (empty: it succeeded).

    The output of a run goes to NAME.log in the folder. Threads and GPUs are divided among the jobs, unless the
    environment sets them. If the caller is interrupted, the runs save checkpoints and end.
    """
    places: queue.SimpleQueue = queue.SimpleQueue()
    for place in range(jobs):
        places.put(place)
    processes: set[subprocess.Popen] = set()

    def make(run: Planned) -> str:
        place = places.get()
        log = os.path.join(folder, f'{run.name}.log')
        try:
            with open(log, 'a', encoding='utf-8') as file:
                process = subprocess.Popen([sys.executable, '-c', START, *run.flags], stdout=file, stderr=file,
                                           env=environment(place, jobs), start_new_session=True)
                processes.add(process)
                code = process.wait()
        finally:
            places.put(place)
        return '' if code == 0 else f'{last_line(log)} (exit code {code}, {log})'

    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(make, run): run for run in runs}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            raise


def environment(place: int, jobs: int) -> dict[str, str]:
    """Return the environment of the job at a place: its share of the threads, and one of the GPUs."""
    found = dict(os.environ)
    if jobs > 1:
        found.setdefault('OMP_NUM_THREADS', str(max(1, torch.get_num_threads() // jobs)))
        if torch.cuda.device_count() > 1:
            visible = found.get('CUDA_VISIBLE_DEVICES', '').split(',')
            devices = visible if visible != [''] else [str(each) for each in range(torch.cuda.device_count())]
            found['CUDA_VISIBLE_DEVICES'] = devices[place % len(devices)]
    return found


def last_line(path: str) -> str:
    """Return the last line of a log that is not empty."""
    with open(path, encoding='utf-8', errors='replace') as file:
        return next((line.strip() for line in reversed(file.readlines()) if line.strip()), 'no output')
