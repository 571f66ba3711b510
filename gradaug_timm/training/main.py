"""train.py from its command line to its last line."""
import logging

import torch.distributed as dist
from timm.utils import setup_default_logging

from ..compilation import CompilationError
from .arguments import build_parser, parse_arguments
from .epoch import DivergedError
from .host import start_host
from .preparation import Run, prepare
from .results import print_results
from .schedule import run_epochs

_logger = logging.getLogger(__name__)
FAILED = 1
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> None:
    """Trains as the command line says.

    Raises:
        SystemExit: With 2 and one line on a wrong flag or missing data, 1 where training diverges or can't be
            compiled, 130 on Ctrl-C.
    """
    _set_up_logging()
    parser = build_parser()
    args, text = parse_arguments(parser, argv)
    try:
        run = None
        try:
            host = start_host(args.device)
            if not host.primary:
                logging.root.setLevel(logging.WARNING)
            run = prepare(args, text, host)
        except (OSError, ValueError) as error:
            _logger.debug('Preparation failed.', exc_info=True)
            parser.error(str(error))
        _train(parser, run)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _set_up_logging() -> None:
    if not logging.root.handlers:
        setup_default_logging()
    logging.getLogger('timm.utils.checkpoint_saver').setLevel(logging.WARNING)  # lists all its files at every save


def _train(parser, run: Run) -> None:
    if run.start_epoch >= run.end_epoch:
        _logger.info(f'Nothing to do: the run has completed its {run.end_epoch} epochs.')
    try:
        results = run_epochs(run)
    except (CompilationError, DivergedError) as error:
        parser.exit(FAILED, f'{parser.prog}: error: {error}\n')
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f'{parser.prog}: interrupted\n')
    if run.trainer.host.primary:
        print_results(run, results)
