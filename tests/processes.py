"""New processes without the time to import torch and timm: they are forked from a server that has imported both."""
import os
import runpy
import sys
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from torch import distributed, multiprocessing

SERVER = get_context('forkserver')
SERVER.set_forkserver_preload(['pytest', 'torch', 'timm', 'timm.task'])


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    return distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False).port


def run_ranks(function, *args) -> None:
    """Runs `function(rank, *args)` in two processes."""
    multiprocessing.start_processes(function, args, nprocs=2, start_method='forkserver')


def run_script(path: Path, *argv: str, **environment: str) -> Ended:
    """Runs a script, as `python path argv...` with some variables in its environment would."""
    printed = [path.with_suffix('.out'), path.with_suffix('.err')]
    process = SERVER.Process(target=_run, args=(str(path), argv, environment, printed))
    process.start()
    process.join()
    return Ended(process.exitcode, *(file.read_text() for file in printed))


def _run(path: str, argv: tuple[str, ...], environment: dict[str, str], printed: list[Path]) -> None:
    for descriptor, file in enumerate(printed, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.update(environment)
    sys.argv = [path, *argv]
    runpy.run_path(path, run_name='__main__')
