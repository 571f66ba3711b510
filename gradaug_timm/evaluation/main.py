"""validate.py: settings from the command line, results on stdout and in files."""


from ..cli import log_to_terminal, table
from ..task.compile_limit import CompilationError
from ..threads import use_threads
from .api import run_evaluation, write_files
from .arguments import build_parser, parse
from .checks import robustness_asked
from .report import as_rows, print_results
from .robustness_report import error_rows


def main(argv: list[str] | None = None) -> None:
    """Run validate.py; SystemExit(2) with one line on stderr if the command can't be carried out."""
    log_to_terminal()
    settings = parse(argv)
    use_threads(settings.threads)
    try:
        results = run_evaluation(settings)
        if robustness_asked(settings):
            print('\n'.join(table(error_rows(as_rows(results)), figures=True)), end='\n\n')
        print_results(results)
        write_files(settings, results)
    except (OSError, ValueError, CompilationError) as error:
        build_parser().error(str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
