"""Two processes that are stopped, killed or started differently."""
import os
import subprocess
import sys
import time

import pytest
from test_resuming import BATCHES, RECIPE, assert_equal_runs, data  # noqa: F401  data is a fixture
from train_helpers import arguments

from gradaug_timm.files import read_checkpoint

FLAGS = {**RECIPE, 'batch_size': 2, 'grad_accum_steps': 2, 'experiment': 'run', 'resume': 'auto', 'log_interval': 1}


def torchrun(project_root, argv: list[str], *, disturb: str = '', restarts: int = 0) -> subprocess.CompletedProcess:
    """Runs train.py in two processes; `disturb` as in disturbed_train.py."""
    environment = {
        **os.environ, 'OMP_NUM_THREADS': '1', 'GLOO_SOCKET_IFNAME': 'lo', 'PYTHONPATH': str(project_root),
        'TORCH_DISABLE_SHARE_RDZV_TCP_STORE': '1', 'DISTURB': disturb,
    }
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '--max-restarts', str(restarts)]
    script = 'tests/disturbed_train.py' if disturb else 'train.py'
    return subprocess.run([sys.executable, *launch, script, *argv], cwd=project_root, env=environment,
                          capture_output=True, text=True, timeout=200)


@pytest.fixture(scope='module')
def undisturbed(project_root, data, tmp_path_factory):  # noqa: F811
    output = tmp_path_factory.mktemp('undisturbed')
    ended = torchrun(project_root, arguments(data, output, **FLAGS))
    assert ended.returncode == 0, ended.stderr[-3000:]
    return output / 'run'


def test_a_signal_to_one_process_stops_both_at_the_same_batch_and_the_resumed_run_is_equal(
        project_root, data, undisturbed, tmp_path):  # noqa: F811
    argv = arguments(data, tmp_path, **FLAGS)
    ended = torchrun(project_root, argv, disturb=f'1 {BATCHES + 1} term')
    assert ended.returncode != 0 and ended.stderr.count('stopped by SIGTERM') == 2
    position = read_checkpoint(tmp_path / 'run' / 'last.pth.tar')['position']
    assert position['epoch'] == 1 and 0 < position['batch'] < BATCHES
    ended = torchrun(project_root, argv)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert_equal_runs(tmp_path / 'run', undisturbed)


def test_a_run_that_torchrun_restarts_goes_on_by_itself_and_is_equal(
        project_root, data, undisturbed, tmp_path):  # noqa: F811
    argv = arguments(data, tmp_path, **{**FLAGS, 'resume': None}, checkpoint_steps=1)
    ended = torchrun(project_root, argv, disturb=f'1 {BATCHES + 3} kill', restarts=1)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert_equal_runs(tmp_path / 'run', undisturbed)


def test_a_process_that_dies_ends_the_others_soon_with_its_cause(project_root, data, tmp_path):  # noqa: F811
    started = time.monotonic()
    ended = torchrun(project_root, arguments(data, tmp_path, **FLAGS), disturb='1 3 kill')
    assert ended.returncode != 0 and time.monotonic() - started < 60
    assert 'Signal 9 (SIGKILL)' in ended.stderr


def test_processes_that_were_started_differently_are_refused(project_root, data, tmp_path):  # noqa: F811
    ended = torchrun(project_root, arguments(data, tmp_path, **FLAGS), disturb='1 0 seed')
    assert ended.returncode != 0
    assert 'the processes don\'t agree on flags: 1 differ from 0' in ended.stderr
