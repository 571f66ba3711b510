"""A run that is killed thirty times at random instants ends as the undisturbed run does."""
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from test_resuming import RECIPE, assert_equal_runs, data  # noqa: F401  data is a fixture
from train_helpers import arguments

pytestmark = pytest.mark.slow
KILLS = 30
FLAGS = {**RECIPE, 'epochs': 60, 'checkpoint_steps': 1, 'checkpoint_hist': 2, 'experiment': 'run', 'resume': 'auto'}


def start(project_root, argv: list[str]) -> subprocess.Popen:
    """Starts train.py; returns once it has imported everything."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen([sys.executable, 'train.py', *argv], cwd=project_root, env=environment, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for line in process.stderr:
        if line.startswith('Process 1 of 1'):
            return process
    raise AssertionError(f'train.py ended with {process.wait()} before it began')


@pytest.mark.parametrize('workers', [0, 2])
def test_thirty_kills_at_random_instants_change_nothing(project_root, data, tmp_path, workers):  # noqa: F811
    argv = arguments(data, tmp_path / 'whole', workers=workers, **FLAGS)
    process = start(project_root, argv)
    ready = time.monotonic()
    assert process.communicate() and process.returncode == 0
    lasts = time.monotonic() - ready
    draws, argv = random.Random(workers), arguments(data, tmp_path / 'parts', workers=workers, **FLAGS)
    codes = []
    for _ in range(KILLS):
        process = start(project_root, argv)
        time.sleep(draws.uniform(0, lasts / KILLS * 3))
        process.send_signal(draws.choice((signal.SIGKILL, signal.SIGTERM)))
        codes.append((process.communicate(), process.returncode)[1])
    print(codes)
    process = start(project_root, argv)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    assert set(codes) <= {0, 143, -signal.SIGKILL, -signal.SIGTERM} and codes.count(-signal.SIGKILL) > 5
    assert_equal_runs(tmp_path / 'parts' / 'run', tmp_path / 'whole' / 'run')
