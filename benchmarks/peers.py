"""Compare train.py without GradAug, or validate.py, with timm's own script: wall and CPU seconds of the same command.

`python -m benchmarks.peers TIMM/train.py --repeats 5 -- --data-dir DIR --model resnet18 --epochs 1 --workers 1`. timm's
packages do not hold its scripts: take them from its repository, at the tag of the installed version. The commands
after `--` run in turns, each in a process of its own, so that start and imports count.
"""
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gradaug_timm.cli import StrictParser, ranged

from .record import report

TRAINING, VALIDATION = 'train.py', 'validate.py'
OURS = Path(__file__).parents[1]


def main(argv: list[str] | None = None) -> None:
    """Run the command.

    Raises:
        SystemExit: With code 2 for a wrong flag, 1 if a script fails.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    own, flags = (words[:words.index('--')], words[words.index('--') + 1:]) if '--' in words else (words, [])
    parser = StrictParser(prog='python -m benchmarks.peers', description=(__doc__ or '').splitlines()[0])
    parser.add_argument('script', help='path of timm\'s train.py or validate.py')
    parser.add_argument('--repeats', type=ranged(int, minimum=1), default=5, help='runs of each (default: %(default)s)')
    parser.add_argument('--json', default='', metavar='FILE', help='append the result as a line of JSON to this file')
    args = parser.parse_args(own)
    name = os.path.basename(args.script)
    if name not in (TRAINING, VALIDATION) or not os.path.isfile(args.script):
        parser.error(f'{args.script} must be a file named {TRAINING} or {VALIDATION}')
    scripts = {'timm': args.script, 'gradaug_timm': str(OURS / name)}
    seconds: dict[str, list[tuple[float, float]]] = {each: [] for each in scripts}
    with tempfile.TemporaryDirectory() as folder:
        output = ['--output', folder] if name == TRAINING else []
        for _ in range(args.repeats):
            for each, script in scripts.items():
                try:
                    seconds[each].append(run_of([sys.executable, script, *flags, *output]))
                except subprocess.CalledProcessError as error:
                    parser.exit(1, f'{parser.prog}: error: {each}: {last_line(error.stderr)}\n')
    args.command = ' '.join(flags)
    wall, cpu = ({each: [run[index] for run in runs] for each, runs in seconds.items()} for index in (0, 1))
    report('peers', args, [
        {'what': what, **{each: statistics.median(runs) for each, runs in times.items()},
         'ratio': statistics.median(a / b for a, b in zip(times['gradaug_timm'], times['timm']))}
        for what, times in (('wall, s', wall), ('CPU, s', cpu))])


def run_of(command: list[str]) -> tuple[float, float]:
    """Run a command and return its wall and CPU seconds, with those of its data workers.

    Raises:
        CalledProcessError: It fails.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def last_line(text: str) -> str:
    """Return the last line of a text that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), 'no output')


if __name__ == '__main__':
    main()
