"""Commands also run with the modules, signals and file system of Windows."""
import errno
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from test_commands import COMMANDS
from train_helpers import arguments, make_image_folder, read_summary

import gradaug_timm
from gradaug_timm.training.outputs.folder import hold_folder

fcntl = pytest.importorskip('fcntl', reason='these imitate Windows on Unix')
TESTS = Path(__file__).parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(gradaug_timm.__path__, 'gradaug_timm.')
    if not module.name.endswith(('__main__', '.hook')))  # these run or patch something


def on_windows(*argv: str, code: str | None = None) -> subprocess.CompletedProcess:
    """Runs `tests/windows.py`, or code in its state."""
    words = ['-m', 'windows', *argv] if code is None else ['-c', f'import windows; windows.imitate()\n{code}']
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)


def test_every_module_is_imported_and_every_command_helps_without_what_only_unix_has():
    assert len(MODULES) > 150
    done = on_windows(code=f'import importlib\nfor name in {MODULES}: importlib.import_module(name)')
    assert done.returncode == 0, done.stderr
    words = [word for entry in COMMANDS.values() for word in (entry, '--help', '--')]
    helped = on_windows(*words)
    assert helped.returncode == 0, helped.stderr
    assert [line for line in helped.stdout.splitlines() if ' ended with ' in line] == [
        f'{entry} ended with 0' for entry in COMMANDS.values()]


def test_the_imitation_hides_what_it_should(tmp_path):
    (tmp_path / 'file').touch()
    done = on_windows(code=f'''
import os, signal, importlib
for name in windows.UNIX_ONLY:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        print(name)
print(hasattr(signal, 'SIGCHLD'), hasattr(os, 'O_DIRECTORY'))
with open({str(tmp_path / 'file')!r}) as held:
    try:
        os.replace(held.name, held.name + '2')
    except PermissionError as error:
        print(error.strerror)
''')
    assert done.stdout.splitlines() == [
        'fcntl', 'grp', 'pwd', 'resource', 'syslog', 'termios', 'False False',
        'what is open can be neither replaced nor removed on Windows'], done.stderr


def test_a_run_trains_resumes_is_replaced_and_evaluated_there(tmp_path):
    data = make_image_folder(tmp_path / 'data', images=8)
    run, replaced = tmp_path / 'run', tmp_path / 'replaced'
    replaced.mkdir()
    (replaced / 'summary.csv').write_text('epoch\n0\n1\n2\n')
    common = dict(epochs=2, experiment='run', checkpoint_hist=1, gradaug=True, gradaug_subnets=1)
    commands = [
        arguments(data, tmp_path, stop_epoch=1, **common),
        arguments(data, tmp_path, resume='auto', **common),
        arguments(data, tmp_path, **{**common, 'experiment': 'replaced', 'epochs': 1}, overwrite=True),
        arguments(data, tmp_path, **common, dry_run=True, overwrite=True),
    ]
    words = [word for argv in commands for word in ('gradaug_timm.training.main:main', *argv, '--')]
    done = on_windows(*words, 'gradaug_timm.evaluation.main:main', *map(str, (
        '--model', 'resnet20_cifar', '--model-kwargs', 'depth=8', '--checkpoint', run / 'last.pth.tar',
        '--data-dir', data, '--num-classes', 2, '--img-size', 16, '--device', 'cpu', '--workers', 0,
        '--results-file', tmp_path / 'found.json', '--results-format', 'json')))
    ended = [line.split()[-1] for line in done.stdout.splitlines() if ' ended with ' in line]
    assert (done.returncode, ended) == (0, 5 * ['0']), done.stderr
    assert [row['epoch'] for row in read_summary(run)] == ['0', '1']
    assert [row['epoch'] for row in read_summary(replaced)] == ['0']
    assert re.search('peak memory +not known', done.stdout)
    assert (tmp_path / 'found.json').exists() and not list(run.glob('*.partial'))


def exit_at_once():
    os._exit(1)


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def be_killed_with_a_worker_alive():
    if os.fork():
        be_killed()
    time.sleep(5)
    os._exit(0)


@pytest.mark.parametrize('end', [exit_at_once, be_killed, be_killed_with_a_worker_alive])
def test_a_lock_ends_with_its_process_whatever_ends_that(tmp_path, end):
    child = os.fork()
    if not child:
        held = hold_folder(str(tmp_path))
        (tmp_path / f'locked {held.is_locked}').touch()
        end()
    os.waitpid(child, 0)
    assert (tmp_path / 'locked True').exists() and (tmp_path / '.lock').exists()
    lock = hold_folder(str(tmp_path))
    assert lock.is_locked
    lock.release()


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_only_warns(tmp_path, monkeypatch, caplog, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))
    monkeypatch.setattr(fcntl, 'flock', flock)
    assert not hold_folder(str(tmp_path)).is_locked
    assert [record.getMessage() for record in caplog.records] == [
        f'{tmp_path} cannot be locked against other runs: {os.strerror(code)}.']


def test_a_process_may_hold_a_folder_twice(tmp_path):
    assert hold_folder(str(tmp_path)) is hold_folder(str(tmp_path))


def test_a_folder_is_free_again_as_soon_as_nobody_in_the_process_holds_it(tmp_path):
    held = hold_folder(str(tmp_path))
    other = FileLock(tmp_path / '.lock', blocking=False)
    with pytest.raises(Timeout):
        other.acquire()
    del held
    with other:
        assert other.is_locked
