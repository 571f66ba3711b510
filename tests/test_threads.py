"""CPU threads of the commands, against environments, faked control groups, and a real one."""
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from train_helpers import train

from gradaug_timm import make_elastic, threads
from gradaug_timm.started import is_command
from gradaug_timm.threads import Threads, choose_threads, cpu_quota, wait_passively


@pytest.fixture
def environment(project_root):
    """The environment without the settings of threads that the tests themselves run with."""
    own = {name: value for name, value in os.environ.items() if name not in (*threads.NUMBERS, *threads.WAITING)}
    return {**own, 'PYTHONPATH': str(project_root)}


def output_of(argv, environment, **options):
    return subprocess.run(
        [sys.executable, *map(str, argv)], env=environment, text=True, capture_output=True, check=True, **options)


def test_a_program_that_imports_the_package_keeps_its_threads_and_its_garbage_collection(environment, tmp_path):
    script = tmp_path / 'train.py'  # not ours
    script.write_text('import gc, os, torch\n'
                      'def settings(): return "OMP_WAIT_POLICY" in os.environ, torch.get_num_threads()\n'
                      'before = settings()\nimport gradaug_timm\nprint(before[0], settings() == before)\n'
                      'print(gc.isenabled() and gc.get_freeze_count() < 1000)')
    assert output_of([script], environment).stdout.split() == ['False', 'True', 'True']


def test_a_command_waits_passively_and_looks_for_no_garbage_among_its_imports(environment, tmp_path, project_root):
    package = tmp_path / 'gradaug_timm'
    package.mkdir()
    for path in (project_root / 'gradaug_timm').iterdir():
        (package / path.name).symlink_to(path)
    (package / 'shown.py').write_text(
        'import gc, os; print(os.environ["OMP_WAIT_POLICY"], gc.isenabled(), gc.get_freeze_count() > 1000)')
    shown = output_of(['-m', 'gradaug_timm.shown'], {**environment, 'PYTHONPATH': str(tmp_path)}, cwd=tmp_path)
    assert shown.stdout.split() == ['PASSIVE', 'True', 'True']


@pytest.mark.parametrize(('argv', 'orig_argv', 'script', 'expected'), [
    (['-m'], ['python', '-u', '-m', 'gradaug_timm.extract', 'a'], None, True),
    (['-m'], ['python', '-m', 'gradaug_timm'], None, True),
    (['-m'], ['python', '-m', 'gradaug_timm_tools'], None, False),
    (['-m'], ['python', '-m', 'pytest', 'gradaug_timm'], None, False),
    (['/usr/bin/gradaug-train', '--help'], ['python', '/usr/bin/gradaug-train'], '/usr/bin/gradaug-train', True),
    (['gradaug-validate.exe'], ['python'], None, True),
    (['train.py'], ['python', 'train.py'], 'train.py', True),
    (['validate.py'], ['python', 'validate.py'], 'validate.py', True),
    (['notes.py'], ['python', 'notes.py'], 'notes.py', False),
    (['train.py'], ['python', 'train.py'], '/elsewhere/train.py', False),
    ([''], ['python'], None, False),
    ([], [], None, False),
])
def test_a_command_is_known_before_torch_is_imported(monkeypatch, project_root, argv, orig_argv, script, expected):
    main = type(sys)('__main__')
    if script:
        main.__file__ = str(project_root / script)
    monkeypatch.setattr(sys, 'argv', argv)
    monkeypatch.setattr(sys, 'orig_argv', orig_argv)
    monkeypatch.setitem(sys.modules, '__main__', main)
    assert is_command() is expected


@pytest.mark.parametrize(('given', 'expected'), [
    ({}, {'OMP_WAIT_POLICY': 'PASSIVE'}),
    ({'OMP_NUM_THREADS': '3'}, {'OMP_NUM_THREADS': '3', 'OMP_WAIT_POLICY': 'PASSIVE'}),
    ({'OMP_WAIT_POLICY': 'ACTIVE'}, {'OMP_WAIT_POLICY': 'ACTIVE'}),
    ({'GOMP_SPINCOUNT': '0'}, {'GOMP_SPINCOUNT': '0'}),
    ({'KMP_BLOCKTIME': '1'}, {'KMP_BLOCKTIME': '1'}),
])
def test_threads_sleep_while_they_wait_unless_the_environment_says_how(given, expected):
    wait_passively(given)
    assert given == expected


@pytest.mark.parametrize(('given', 'environment', 'default', 'quota', 'expected'), [
    (None, {}, 8, None, Threads(8, 'of 8 cores')),
    (3, {'OMP_NUM_THREADS': '1'}, 1, 0.5, Threads(3, '--threads')),
    (None, {'OMP_NUM_THREADS': '6'}, 6, 2., Threads(6, 'OMP_NUM_THREADS=6')),
    (None, {'MKL_NUM_THREADS': '2'}, 2, None, Threads(2, 'MKL_NUM_THREADS=2')),
    (None, {'OMP_NUM_THREADS': ''}, 8, None, Threads(8, 'of 8 cores')),
    (None, {}, 8, 2.5, Threads(2, 'of a quota of 2.5 CPUs')),
    (None, {}, 8, 0.5, Threads(1, 'of a quota of 0.5 CPUs')),
    (None, {}, 2, 16., Threads(2, 'of 2 cores')),
    (None, {'LOCAL_WORLD_SIZE': '4'}, 8, None, Threads(2, 'a share of 8 cores for 4 processes')),
    (None, {'LOCAL_WORLD_SIZE': '4'}, 16, 6., Threads(1, 'a share of a quota of 6 CPUs for 4 processes')),
    (None, {'LOCAL_WORLD_SIZE': '16'}, 8, None, Threads(1, 'a share of 8 cores for 16 processes')),
    (None, {'LOCAL_WORLD_SIZE': 'many'}, 8, None, Threads(8, 'of 8 cores')),
])
def test_a_process_takes_the_threads_that_it_may_run_and_the_environment_wins(
        given, environment, default, quota, expected):
    assert choose_threads(given, environment, default=default, quota=quota) == expected


@pytest.mark.parametrize(('groups', 'files', 'expected'), [
    ('0::/', {'cpu.max': '150000 100000'}, 1.5),
    ('0::/', {'cpu.max': 'max 100000'}, None),
    ('0::/', {}, None),
    ('0::/a/b', {'a/b/cpu.max': 'max 100000', 'a/cpu.max': '50000 100000', 'cpu.max': '400000 100000'}, 0.5),
    ('0::/../other', {'cpu.max': '200000 100000'}, 2),
    ('3:cpu,cpuacct:/docker/1\n0::/', {'cpu,cpuacct/docker/1/cpu.cfs_quota_us': '50000',
                                       'cpu,cpuacct/docker/1/cpu.cfs_period_us': '100000'}, 0.5),
    ('3:cpu,cpuacct:/docker/1', {'cpu/cpu.cfs_quota_us': '300000', 'cpu/cpu.cfs_period_us': '100000'}, 3),
    ('3:cpu:/', {'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, None),
    ('2:cpuset:/\n1:cpuacct:/', {'cpuset/cpu.cfs_quota_us': '1000', 'cpuset/cpu.cfs_period_us': '100000'}, None),
    ('0::/', {'unified/cpu.max': '250000 100000'}, 2.5),
    ('0::/', {'cpu.max': 'broken'}, None),
])
def test_a_quota_is_the_least_of_the_control_groups_around_a_process(tmp_path, groups, files, expected):
    (tmp_path / 'groups').write_text(groups + '\n')
    for name, text in files.items():
        path = tmp_path / 'mounted' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + '\n')
    assert cpu_quota(str(tmp_path / 'groups'), str(tmp_path / 'mounted')) == expected


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert cpu_quota(str(tmp_path / 'groups'), str(tmp_path)) is None


@pytest.fixture
def half_a_core():
    """The file that lists the processes of a new control group with a quota of half a CPU."""
    version_1 = Path('/sys/fs/cgroup/cpu')
    folder = (version_1 if version_1.is_dir() else Path('/sys/fs/cgroup')) / f'gradaug-test-{os.getpid()}'
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f'no control group can be made: {error}')
    try:
        if version_1.is_dir():
            (folder / 'cpu.cfs_period_us').write_text('100000')
            (folder / 'cpu.cfs_quota_us').write_text('50000')
        else:
            (folder / 'cpu.max').write_text('50000 100000')
        yield folder / 'cgroup.procs'
    except OSError as error:
        pytest.skip(f'no quota can be set: {error}')
    finally:
        folder.rmdir()


def test_a_real_quota_of_half_a_core_is_found(environment, half_a_core, project_root):
    code = (f'import os, sys; open({str(half_a_core)!r}, "w").write(str(os.getpid())); '
            f'sys.path.insert(0, {str(project_root / "gradaug_timm")!r}); import threads; print(threads.cpu_quota())')
    assert output_of(['-c', code], environment).stdout.split() == ['0.5']


def test_a_run_says_how_many_threads_it_uses_and_why(image_folder, tmp_path, caplog):
    before = torch.get_num_threads()
    try:
        with caplog.at_level(logging.INFO):
            train(image_folder, tmp_path, epochs=1, threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert 'CPU threads: 2 (--threads; waiting: OMP_WAIT_POLICY=PASSIVE).' in caplog.messages


def test_planning_runs_on_one_thread_and_restores_the_setting():
    class Watched(nn.Linear):
        seen = set()

        def forward(self, input):
            self.seen.add(torch.get_num_threads())
            return super().forward(input)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        network = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 24), nn.ReLU(),
            Watched(24, 2))
        make_elastic(network)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert Watched.seen == {1}
