"""The command line of `python -m gradaug_timm.compare`."""
import argparse
import os
import re
from dataclasses import dataclass
from typing import NamedTuple

from ..cli import StrictParser, ranged
from .methods import BASELINE, BUILT_IN

TIME, MULTIPLY_ADDS = 'time', 'multiply-adds'
# Flags of train.py that differ between the runs, and ours that set them.
TAKEN = {'--seed': '--first-seed and --seeds', '--experiment': '--output', '--resume': '--output', '-c': '--methods',
         '--config': '--methods'}
UNITS = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}
DESCRIPTION = f"""Compare methods that all get the same computation, over several seeds.

The step of each method is measured, and its schedule is stretched so that it costs as much as plain training for
--compute times the epochs of BASE. Runs are made with train.py; a comparison that was stopped goes on where it was.
Methods are {", ".join(BUILT_IN)}, YAML files of flags, and several of these joined by +, such as gradaug+cutmix.
{BASELINE} is BASE without GradAug. All other flags are those of train.py and hold for all runs."""


class Shard(NamedTuple):
    """Part `part` (from 1) of `parts` of a comparison."""
    part: int
    parts: int


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and how.

    Args:
        base: YAML file of the settings that all runs share, or the name of a file in hparams.
        methods: The methods.
        compute: Computation of each run, relative to plain training with BASE's epochs.
        seeds: The seeds.
        cost: How the cost of a step is found: TIME or MULTIPLY_ADDS.
        output: Folder of the runs, the tables and the picture.
        jobs: Number of runs at a time.
        shard: The part of the runs that this process makes.
        seconds: Time within which the runs should end; None: no limit.
        against: The method that the others are compared with.
        metric: The metric that is compared; None: `--eval-metric` of the runs.
        dry_run: Only say what would be run.
        flags: Flags of train.py for all runs.
    """
    base: str
    methods: tuple[str, ...]
    compute: tuple[float, ...]
    seeds: tuple[int, ...]
    cost: str
    output: str
    jobs: int
    shard: Shard
    seconds: float | None
    against: str
    metric: str | None
    dry_run: bool
    flags: tuple[str, ...]


def build_parser() -> StrictParser:
    """Return a new parser."""
    parser = StrictParser(
        prog='python -m gradaug_timm.compare',
        usage='%(prog)s BASE.yaml [--methods NAME...] [--compute C...] [--seeds N] --output DIR [flags of train.py]',
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('base', metavar='BASE.yaml', help='settings of all runs: a YAML file, or a file in hparams')
    add = parser.add_argument_group('comparison').add_argument
    add('--methods', nargs='+', default=['baseline', 'cutmix', 'gradaug'], metavar='NAME',
        help='methods (default: baseline cutmix gradaug)')
    add('--compute', nargs='+', type=ranged(float, above=0), default=[1.], metavar='C',
        help="computation of each run, as a multiple of plain training for BASE's epochs (default: 1)")
    add('--seeds', type=ranged(int, minimum=1), default=3, metavar='N', help='number of seeds (default: 3)')
    add('--first-seed', type=ranged(int, minimum=0), default=1, metavar='N', help='first of the seeds (default: 1)')
    add('--cost', choices=(TIME, MULTIPLY_ADDS), default=TIME,
        help='what makes runs equal: the time of a step, measured here, or its multiply-adds (default: time)')
    add('--against', default=BASELINE, metavar='NAME',
        help='the method whose results are subtracted from the others (default: baseline)')
    add('--metric', metavar='NAME', help='metric of validation that is compared (default: --eval-metric of the runs)')
    add = parser.add_argument_group('execution').add_argument
    add('--output', required=True, metavar='DIR', help='folder of the runs, tables and picture')
    add('--jobs', type=ranged(int, minimum=1), default=1, metavar='N',
        help='runs at a time; they share the GPUs, or the CPU cores')
    add('--shard', type=shard, default=Shard(1, 1), metavar='I/N',
        help='make only part I of N of the runs, for example in an array of jobs that share --output')
    add('--time', type=duration, metavar='T',
        help='leave out runs that do not fit into this time, such as 90m or 2h, last seeds first')
    add('--dry-run', action='store_true', help='say what would be run and how long it takes, and write nothing')
    return parser


def parse(parser: StrictParser, argv: list[str] | None = None) -> CompareSettings:
    """Return the settings of a command line; the flags of train.py are not checked yet."""
    args, rest, problems = parser.collect_known(argv)
    if problems:
        parser.error('; '.join(problems))
    for name in ('methods', 'compute'):
        repeated = next((each for each in getattr(args, name) if getattr(args, name).count(each) > 1), None)
        if repeated is not None:
            parser.error(f'--{name}: {repeated} is given twice')
    taken = next((word for word in rest if word.split('=')[0] in TAKEN), None)
    if taken:
        parser.error(f'{taken} is set by the comparison; use {TAKEN[taken.split("=")[0]]}')
    return CompareSettings(
        base=args.base,
        methods=tuple(args.methods),
        compute=tuple(args.compute),
        seeds=tuple(range(args.first_seed, args.first_seed + args.seeds)),
        cost=args.cost,
        output=os.path.normpath(args.output),
        jobs=args.jobs,
        shard=args.shard,
        seconds=args.time,
        against=args.against,
        metric=args.metric,
        dry_run=args.dry_run,
        flags=tuple(rest),
    )


def shard(text: str) -> Shard:
    """Return the part that a text such as 2/8 stands for."""
    match = re.fullmatch(r'(\d+)/(\d+)', text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f'{text!r} must be I/N with I from 1 to N')
    return Shard(int(match[1]), int(match[2]))


def duration(text: str) -> float:
    """Return the seconds that a text such as 90m, 2h or 1h30m stands for."""
    parts = re.findall(r'(\d+(?:\.\d+)?)([smhd])', text)
    if not parts or ''.join(map(''.join, parts)) != text:
        raise argparse.ArgumentTypeError(f'{text!r} must be a time such as 90s, 30m, 2h or 1h30m')
    return sum(float(number) * UNITS[unit] for number, unit in parts)
