"""Check the smallest architecture of each module of timm, or of the named modules, and write the table."""
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from ..cli import StrictParser, file_to_write, ranged
from ..files import written_aside
from .modules import check_module, timm_modules
from .table import table


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = StrictParser(prog='python -m gradaug_timm.coverage', description=__doc__)
    parser.add_argument('modules', nargs='*', metavar='MODULE', help='modules of timm to check (default: all)')
    parser.add_argument(
        '--output', type=file_to_write(), metavar='FILE', help='write the table to this file (default: stdout)')
    parser.add_argument(
        '-j', '--jobs', type=ranged(int, minimum=1), default=1, metavar='N', help='number of processes (default: 1)')
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    modules = timm_modules()
    unknown = set(args.modules) - set(modules)
    if unknown:
        parser.error(f'argument modules: {", ".join(sorted(unknown))} must be among {", ".join(modules)}')
    with ProcessPoolExecutor(args.jobs, get_context('spawn')) as pool:
        running = [pool.submit(check_module, module) for module in args.modules or modules]
        for done in as_completed(running):
            print(done.result(), file=sys.stderr, flush=True)
    findings = [done.result() for done in running]
    page = table(findings, ' '.join(['python -m gradaug_timm.coverage', *argv]))
    if args.output:
        with written_aside(args.output) as partial, open(partial, 'w', encoding='utf-8') as file:
            file.write(page)
    else:
        print(page, end='')


if __name__ == '__main__':
    main()
