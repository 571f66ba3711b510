"""Measure the cost of a GradAug step by number of sub-networks, batch and resolution."""
from dataclasses import replace

from .case import Case, case_from, case_parser, gradaug_step, plain_step
from .record import report
from .timing import medians, ratio, take_turns


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = case_parser('scaling', __doc__)
    parser.add_argument(
        '--subnets', type=int, nargs='+', default=[1, 2, 3, 4], help='numbers of sub-networks (default: %(default)s)')
    parser.add_argument('--batches', type=int, nargs='+', default=[], help='batch sizes in addition to --batch')
    parser.add_argument('--resolutions', type=int, nargs='+', default=[], help='image sizes in addition to --size')
    args = parser.parse_args(argv)
    case = case_from(args)
    rows = [row(case, subnets, args.repeats, args.warmup) for subnets in args.subnets]
    rows += [row(replace(case, batch=batch), 3, args.repeats, args.warmup) for batch in args.batches]
    rows += [row(replace(case, size=size), 3, args.repeats, args.warmup) for size in args.resolutions]
    report('scaling', args, rows)


def row(case: Case, subnets: int, repeats: int, warmup: int) -> dict[str, float]:
    """Return the times of a plain step and of a GradAug step with this number of sub-networks."""
    runs = {'plain': plain_step(case), 'gradaug': gradaug_step(case, subnets=subnets)}
    times = take_turns(runs, repeats=repeats, warmup=max(repeats, warmup), device=case.device)
    found = medians(times)
    return {'sub-networks': subnets, 'batch': case.batch, 'size': case.size, 'plain ms': found['plain'],
            'GradAug ms': found['gradaug'], 'cost': ratio(times, ['gradaug'], ['plain'])}


if __name__ == '__main__':
    main()
