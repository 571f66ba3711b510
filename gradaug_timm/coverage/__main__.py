"""Checks the smallest architecture of each module of timm, or the ones named, and writes the table."""
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import timm
import torch

from ..cli import StrictParser
from .checks import Finding, check_model
from .table import table


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = StrictParser(prog='python -m gradaug_timm.coverage', description=__doc__)
    parser.add_argument('modules', nargs='*', metavar='MODULE', help='modules of timm (default: all)')
    parser.add_argument('--output', metavar='FILE', help='file for the table (default: stdout)')
    parser.add_argument('-j', '--jobs', type=int, default=1, metavar='N', help='processes (default: 1)')
    args = parser.parse_args(argv)
    unknown = set(args.modules) - set(timm.list_modules())
    if unknown:
        parser.error(f'argument modules: {", ".join(sorted(unknown))} must be among timm.list_modules()')
    names = {module: smallest(module) for module in args.modules or timm.list_modules()}
    with ProcessPoolExecutor(args.jobs, get_context('spawn')) as pool:
        findings = []
        for finding in pool.map(_check, names, names.values()):
            print(finding, file=sys.stderr, flush=True)
            findings.append(finding)
    page = table(findings, ' '.join(['python -m gradaug_timm.coverage', *sys.argv[1:]]))
    if args.output:
        with open(args.output, 'w') as file:
            file.write(page)
    else:
        print(page, end='')


def smallest(module: str) -> str:
    """The architecture of a module with the fewest parameters, other than those made for timm's own tests."""
    names = [name for name in timm.list_models(module=module) if not name.startswith(('test_', 'gradaug_'))]
    return min(names, key=_parameters)


def _parameters(name: str) -> int:
    with torch.device('meta'):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


def _check(module: str, name: str) -> Finding:
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    os.environ['GRADAUG_CACHE_DIR'] = ''  # planning is timed
    return check_model(module, name)


if __name__ == '__main__':
    main()
