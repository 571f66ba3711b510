"""Measure images per second of train.py's input pipeline and of the training step.

The flags are those of train.py: `python -m benchmarks.loader -c hparams/... --data-dir DIR --workers 2`.
"""
import argparse
import itertools
import tempfile
import time

import torch

from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.loop.epoch import train_epoch
from gradaug_timm.training.prepare import prepare
from gradaug_timm.training.processes import start_process

from .record import report

BATCHES = 50


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    own = argparse.ArgumentParser(prog='python -m benchmarks.loader', description=__doc__, add_help=False)
    own.add_argument('--batches', type=int, default=BATCHES, help='timed batches (default: %(default)s)')
    own.add_argument('--json', default='', metavar='FILE', help='append the result as a line of JSON to this file')
    args, rest = own.parse_known_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        flags, _ = parse_arguments(build_parser(), [*rest, '--output', folder, '--log-interval', '1000000'])
        run = prepare(flags, '', start_process(flags.device))
        loader = run.loaders.train
        pipeline = images_per_second(itertools.islice(forever(loader), args.batches + 1))
        batch = next(iter(loader))
        run.loaders.train = [batch] * args.batches
        start = time.perf_counter()
        train_epoch(run, 0)
        if batch[0].is_cuda:
            torch.cuda.synchronize()
        step = args.batches * len(batch[0]) / (time.perf_counter() - start)
    rows = [{'what': 'input pipeline', 'images/s': pipeline}, {'what': 'training step', 'images/s': step},
            {'what': 'pipeline / step', 'images/s': pipeline / step}]
    args.command = ' '.join(rest)
    report('loader', args, rows)


def forever(loader):
    """Yield the batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def images_per_second(batches) -> float:
    """Return the speed of an iterator of (images, target), without the first batch, for which workers start."""
    next(batches)
    start, count = time.perf_counter(), 0
    for images, _ in batches:
        count += len(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


if __name__ == '__main__':
    main()
