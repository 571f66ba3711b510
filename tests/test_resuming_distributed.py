"""Two processes, of one machine or of two, that are stopped, killed or started differently."""
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module

import pytest
from nodes import end, start_node, submit
from processes import free_port
from test_resuming import BATCHES, RECIPE, assert_equal_runs, data  # noqa: F401  data is a fixture
from train_helpers import arguments

from gradaug_timm.files import read_checkpoint
from gradaug_timm.training.main import main

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


def test_processes_that_were_started_differently_are_refused_before_an_earlier_run_is_deleted(
        project_root, data, undisturbed, tmp_path):  # noqa: F811
    folder = shutil.copytree(undisturbed, tmp_path / 'run')
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    flags = {**FLAGS, 'resume': None, 'overwrite': True}
    ended = torchrun(project_root, arguments(data, tmp_path, **flags), disturb='1 0 seed')
    assert ended.returncode != 0
    assert 'the processes differ in flags: 1 from process 0' in ended.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def wait_for_checkpoint(output, process: subprocess.Popen) -> None:
    while not (output / 'run' / 'last.pth.tar').exists() and process.poll() is None:
        time.sleep(0.02)


def test_two_machines_train_as_two_processes_of_one(project_root, data, undisturbed, tmp_path):  # noqa: F811
    argv, port = arguments(data, tmp_path, **FLAGS), free_port()
    ended = end(*(start_node(project_root, node, port, argv) for node in range(2)))
    assert [code for code, _ in ended] == [0, 0], ended
    assert_equal_runs(tmp_path / 'run', undisturbed)


@pytest.mark.slow
def test_machines_go_on_by_themselves_when_a_process_of_one_dies(project_root, data, undisturbed, tmp_path):  # noqa: F811
    argv, port = arguments(data, tmp_path, **{**FLAGS, 'resume': None}, checkpoint_steps=1), free_port()
    ended = end(*(start_node(project_root, node, port, argv, disturb=f'1 {BATCHES + 3} kill', restarts=1)
                  for node in range(2)))
    assert [code for code, _ in ended] == [0, 0], ended
    assert_equal_runs(tmp_path / 'run', undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize('stop', [1, None], ids=['stopped', 'finished'])
def test_a_machine_that_does_not_see_the_checkpoint_is_refused(project_root, data, tmp_path, stop):  # noqa: F811
    flags = {**FLAGS, 'model': 'resnet20_cifar', 'gradaug_divisor': None}
    places, port = [tmp_path / 'one', tmp_path / 'other'], free_port()
    for place in places:
        place.mkdir()
    begun = torchrun(project_root, arguments(data, places[0], **flags, stop_epoch=stop))
    assert begun.returncode == 0, begun.stderr
    argv = arguments(data, '.', **flags)
    ended = end(*(start_node(project_root, node, port, argv, cwd=place) for node, place in enumerate(places)))
    assert all(code != 0 and 'differ in the starting position' in log for code, log in ended), ended


def test_processes_that_cannot_be_connected_end_with_one_line_at_the_first_start_too(
        data, tmp_path, monkeypatch, capsys):  # noqa: F811
    def fail(device):
        raise RuntimeError('the client\nsocket has timed out')

    monkeypatch.setattr(import_module('gradaug_timm.training.main'), 'start_process', fail)
    argv = arguments(data, tmp_path, **FLAGS)
    with pytest.raises(RuntimeError):  # one process alone has nothing to connect
        main(argv)
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 1
    assert 'error: the processes cannot be connected (the client socket has timed out)' in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_to_the_launchers_of_both_machines_stops_both(project_root, data, undisturbed, tmp_path):  # noqa: F811
    argv, port = arguments(data, tmp_path, **FLAGS, checkpoint_steps=1), free_port()
    nodes = [start_node(project_root, node, port, argv) for node in range(2)]
    wait_for_checkpoint(tmp_path, nodes[0])
    for node in nodes:
        node.send_signal(signal.SIGTERM)
    ended = end(*nodes)
    assert all('stopped by SIGTERM' in log for _, log in ended), ended
    ended = end(*(start_node(project_root, node, port, argv) for node in range(2)))
    assert [code for code, _ in ended] == [0, 0], ended
    assert_equal_runs(tmp_path / 'run', undisturbed)


def test_a_job_whose_time_ends_saves_is_queued_again_and_ends_as_an_undisturbed_run(
        project_root, data, undisturbed, tmp_path):  # noqa: F811
    argv = arguments(data, tmp_path, **{**FLAGS, 'experiment': None, 'resume': None, 'checkpoint_steps': 1})
    job = submit(project_root, tmp_path, argv)
    wait_for_checkpoint(tmp_path, job)
    job.send_signal(signal.SIGUSR1)
    log = job.communicate(timeout=200)[1]
    assert job.returncode == 143 and 'tasks ended with 143 and 143' in log, log
    assert (tmp_path / 'calls').read_text().startswith('requeue ')
    assert read_checkpoint(tmp_path / 'run' / 'last.pth.tar')['position']['epoch'] < FLAGS['epochs']
    job = submit(project_root, tmp_path, argv)
    log = job.communicate(timeout=200)[1]
    assert job.returncode == 0, log
    assert (tmp_path / 'calls').read_text().count('requeue') == 1
    assert_equal_runs(tmp_path / 'run', undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize('repeated, preempted', [(1, 'None'), (3, 'None'), (1, '2026-01-02T03:04:05')])
def test_a_job_whose_tasks_get_sigterm_themselves_saves_and_is_queued_again_where_it_is_pre_empted(
        project_root, data, tmp_path, repeated, preempted):  # noqa: F811
    argv = arguments(data, tmp_path, **{**FLAGS, 'experiment': None, 'resume': None, 'checkpoint_steps': 1})
    job = submit(project_root, tmp_path, argv, preempted=preempted)
    wait_for_checkpoint(tmp_path, job)
    for _ in range(repeated):
        for task in (tmp_path / 'tasks').read_text().split():
            os.kill(int(task), signal.SIGTERM)
    log = job.communicate(timeout=200)[1]
    assert job.returncode == 143 and 'tasks ended with 143 and 143' in log, log
    calls = (tmp_path / 'calls').read_text().split()[:1] if (tmp_path / 'calls').exists() else []
    assert calls == ([] if preempted == 'None' else ['requeue'])
    assert read_checkpoint(tmp_path / 'run' / 'last.pth.tar')['position']['epoch'] < FLAGS['epochs']


@pytest.mark.slow
def test_a_job_that_is_cancelled_whole_is_not_queued_again(project_root, data, tmp_path):  # noqa: F811
    argv = arguments(data, tmp_path, **{**FLAGS, 'experiment': None, 'resume': None, 'checkpoint_steps': 1})
    job = submit(project_root, tmp_path, argv)
    wait_for_checkpoint(tmp_path, job)
    os.killpg(job.pid, signal.SIGTERM)  # the script, srun and the tasks, which srun kills
    log = job.communicate(timeout=200)[1]
    assert job.returncode == -signal.SIGTERM and 'tasks ended with 137 and 137' in log, log
    assert not (tmp_path / 'calls').exists()
