"""The command train.py: parse the command line, prepare the run, train, and report errors."""
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch.distributed as dist
from timm.utils.distributed import is_distributed_env

from ..cli import log_to_terminal, one_line, started_as
from ..flags import SettingsParser
from ..task.compile_limit import CompilationError
from ..threads import use_threads
from .agreement import DisagreementError, gather
from .arguments import build_parser, parse_arguments
from .arguments.checks import DEFAULT_OUTPUT
from .arguments.settings import LoopSettings
from .checkpoints.find import LAST
from .dry_run.report import dry_run
from .dry_run.trial import MemoryShortageError
from .loop.between_steps import DataError
from .loop.epochs import run_epochs
from .loop.nonfinite import DivergedError
from .loop.signals import Stopped
from .prepare import prepare
from .processes import Process, start_process
from .run import Run
from .summary import print_results

_logger = logging.getLogger(__name__)

Loop = TypeVar('Loop', bound=LoopSettings)
FAILED = 1
INTERRUPTED = 130
SEPARATE_STORE = 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE'  # else torch 2.15 reads the addresses of the previous attempt


def main(argv: list[str] | None = None) -> None:
    """Train as the command line describes.

    Raises:
        SystemExit: With code 2 and one line for a wrong flag or missing data; 1 if training fails (it diverges, data
            or other processes are lost, the disk is full); 143 after SIGTERM; 130 after Ctrl-C.
    """
    run_command(build_parser(), argv, prepare)


def run_command(
        parser: SettingsParser,
        argv: list[str] | None,
        prepare: Callable[[Any, str, Process], Run],
) -> None:
    """Run a training command for any kind of settings and networks.

    Args:
        parser: The parser.
        argv: The command line; None: the command line of the program.
        prepare: Builds a run from the settings, the settings as YAML text, and the process.
    """
    log_to_terminal()
    args, text = parse_arguments(parser, argv)
    try:
        _train(parser, _prepare(parser, args, text, prepare), argv)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _prepare(parser: SettingsParser, args: Any, text: str, prepare: Callable[[Any, str, Process], Run]) -> Run:
    try:
        process = start_process(args.device)
        if not process.primary:
            logging.root.setLevel(logging.WARNING)
        for line in args.notes:
            _logger.info(line)
        use_threads(args.threads)
        return prepare(continue_restarted(args, process), text, process)
    except DisagreementError as error:
        parser.exit(FAILED, f'{parser.prog}: error: {error}\n')
    except RuntimeError as error:
        if dist.is_initialized() and _lost_a_peer(error):
            parser.exit(FAILED, f'{parser.prog}: error: another process has ended ({one_line(error)})\n')
        if not is_distributed_env() or dist.is_initialized():
            raise
        parser.exit(FAILED, f'{parser.prog}: error: the processes cannot be connected '
                            f'({one_line(error, 120)}); set {SEPARATE_STORE}=1 for torchrun if it is '
                            'to restart processes\n')
    except (OSError, ValueError) as error:
        _logger.debug('Preparation failed.', exc_info=True)
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f'{parser.prog}: interrupted\n')


def continue_restarted(args: Loop, process: Process) -> Loop:
    """Return settings with which processes that torchrun has restarted resume the newest checkpoint.

    torchrun counts restarts only on the machine where a process died.

    Raises:
        ValueError: The run has no name, so that its checkpoints cannot be found.
    """
    if not any(gather(process, _restarts())):
        return args
    if not args.experiment:
        raise ValueError('torchrun has restarted the run; add --experiment NAME so that its checkpoints can be found')
    if not args.resume or os.path.exists(os.path.join(args.output or DEFAULT_OUTPUT, args.experiment, LAST)):
        return replace(args, resume='auto')
    return args


def _restarts() -> int:
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0))


def _how_to_continue(run: Run, argv: list[str] | None) -> str:
    """Return the newest checkpoint of a run, and the command that resumes from it."""
    if run.folder is None:
        return 'continue the run with --resume'
    newest = os.path.join(run.folder.path, LAST)
    if not os.path.isfile(newest):
        return f'there is no checkpoint in {run.folder.path} yet'
    words = shlex.join(without_resume(sys.argv[1:] if argv is None else argv))
    return f'the last checkpoint is {newest}; continue with: {started_as()} {words} --resume {shlex.quote(newest)}'


def without_resume(argv: Sequence[str]) -> list[str]:
    """Return a command line without --resume, --start-epoch and --overwrite, which are for the first start only."""
    found: list[str] = []
    skip = False
    for word in argv:
        value, skip = skip and not word.startswith('-'), False
        if value or word == '--overwrite' or word.startswith(('--resume=', '--start-epoch=')):
            continue
        if word in ('--resume', '--start-epoch'):
            skip = True
            continue
        found.append(word)
    return found


def _train(parser, run: Run, argv: list[str] | None) -> None:
    if run.start.epoch >= run.end_epoch:
        _logger.info(f'Nothing to do: the run has already completed {run.end_epoch} epochs.')
    try:
        if run.args.dry_run:
            return dry_run(run)
        results = run_epochs(run)
    except (CompilationError, DataError, DisagreementError, DivergedError, MemoryShortageError, OSError) as error:
        _logger.debug('Training failed.', exc_info=True)
        parser.exit(FAILED, f'{parser.prog}: error: {error}\n')
    except RuntimeError as error:
        if not run.process.distributed or not _lost_a_peer(error):
            raise
        parser.exit(FAILED, f'{parser.prog}: error: process {run.process.rank} lost the connection to another '
                            f'process, which has died ({one_line(error)})\n')
    except Stopped as stopped:
        name = signal.Signals(stopped.signal).name
        parser.exit(128 + stopped.signal, f'{parser.prog}: stopped by {name}; {_how_to_continue(run, argv)}\n')
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f'{parser.prog}: interrupted; {_how_to_continue(run, argv)}\n')
    if run.folder is not None:
        print_results(run, run.folder, results)


def _lost_a_peer(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(
        word in str(error) for word in ('Connection closed by peer', 'Connection reset by peer', 'gloo'))
