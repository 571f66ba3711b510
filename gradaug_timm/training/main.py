"""train.py from its command line to its last line."""
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch.distributed as dist
from timm.utils import setup_default_logging
from timm.utils.distributed import is_distributed_env

from ..cli import one_line
from ..flags import SettingsParser
from ..task.compile_limit import CompilationError
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
SEPARATE_STORE = 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE'  # else torch reads the addresses of the last attempt (2.15)


def main(argv: list[str] | None = None) -> None:
    """Trains as the command line says.

    Raises:
        SystemExit: With 2 and one line on a wrong flag or missing data, 1 where training fails (it diverges, data or
            other processes are lost, the disk is full), 143 on SIGTERM, 130 on Ctrl-C.
    """
    run_command(build_parser(), argv, prepare)


def run_command(
        parser: SettingsParser,
        argv: list[str] | None,
        prepare: Callable[[Any, str, Process], Run],
) -> None:
    """Does what `main` does, for settings and networks of any kind.

    Args:
        parser: The parser.
        argv: The command line; None: that of the program.
        prepare: Makes a run of settings, of their YAML text, and of the process.
    """
    _set_up_logging()
    args, text = parse_arguments(parser, argv)
    try:
        _train(parser, _prepare(parser, args, text, prepare))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _prepare(parser: SettingsParser, args: Any, text: str, prepare: Callable[[Any, str, Process], Run]) -> Run:
    try:
        process = start_process(args.device)
        if not process.primary:
            logging.root.setLevel(logging.WARNING)
        return prepare(continue_restarted(args, process), text, process)
    except RuntimeError as error:
        if not is_distributed_env() or dist.is_initialized():
            raise
        parser.exit(FAILED, f'{parser.prog}: error: the processes can\'t be connected '
                            f'({one_line(error, 120)}); torchrun\'s restarts need it to be started '
                            f'with {SEPARATE_STORE}=1\n')
    except (OSError, ValueError) as error:
        _logger.debug('Preparation failed.', exc_info=True)
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f'{parser.prog}: interrupted\n')


def continue_restarted(args: Loop, process: Process) -> Loop:
    """Return the settings by which processes that torchrun starts anew resume what the last ones saved.

    torchrun counts the restarts only on the machine whose process had died.

    Raises:
        ValueError: The run has no name by which its checkpoints could be found.
    """
    if not any(gather(process, _restarts())):
        return args
    if not args.experiment:
        raise ValueError('torchrun restarts the run: it needs --experiment NAME to go on with what is saved')
    if not args.resume or os.path.exists(os.path.join(args.output or DEFAULT_OUTPUT, args.experiment, LAST)):
        return replace(args, resume='auto')
    return args


def _restarts() -> int:
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0))


def _set_up_logging() -> None:
    if not logging.root.handlers:
        setup_default_logging()
    logging.getLogger('timm.utils.checkpoint_saver').setLevel(logging.WARNING)  # lists all its files at every save


def _train(parser, run: Run) -> None:
    if run.start.epoch >= run.end_epoch:
        _logger.info(f'Nothing to do: the run has completed its {run.end_epoch} epochs.')
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
        parser.exit(FAILED, f'{parser.prog}: error: process {run.process.rank} lost the others, one of which '
                            f'has died ({one_line(error)})\n')
    except Stopped as stopped:
        name = signal.Signals(stopped.signal).name
        parser.exit(128 + stopped.signal, f'{parser.prog}: stopped by {name}; --resume goes on from what is saved\n')
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f'{parser.prog}: interrupted\n')
    if run.folder is not None:
        print_results(run, run.folder, results)


def _lost_a_peer(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(
        word in str(error) for word in ('Connection closed by peer', 'Connection reset by peer', 'gloo'))
