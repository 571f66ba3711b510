"""Computes, without running anything, what exchanging gradients costs on many GPUs, and how long a training takes.

Data parallel training: each GPU has `--batch` images a step, gradients are 32-bit and summed by a ring. DDP exchanges
them while backward computes; with GradAug that is the backward pass of the last sub-network alone.
"""
import argparse

from gradaug_timm.cli import StrictParser, ranged

from .record import report

BACKWARD = 2 / 3  # of a pass: backward computes twice what forward does
GRADIENT_BYTES = 4  # of a parameter: DDP sums in the weights' float32, under autocast too


def all_reduce_seconds(size: float, gpus: int, *, bandwidth: float, latency: float) -> float:
    """Time in which a ring sums `size` bytes: each GPU sends 2 (n - 1) pieces of size / n.

    Args:
        size: Bytes of the gradients.
        gpus: Number of GPUs, n.
        bandwidth: Bytes a second, in one direction, of the slowest link.
        latency: Seconds for a piece to begin to arrive.
    """
    pieces = 2 * (gpus - 1)
    return pieces * (size / gpus / bandwidth + latency)


def step_seconds(compute: float, exchange: float, *, hidden: float) -> float:
    """Time of a step: what of the exchange isn't hidden behind `hidden` seconds of backward is waited for."""
    return compute + max(0., exchange - hidden)


def hidden_seconds(plain: float, *, cost: float, subnets: int) -> float:
    """How long DDP can exchange gradients beside computing.

    Args:
        plain: Seconds of a plain step's computation.
        cost: Of a GradAug step, relative to a plain one.
        subnets: Sub-networks a step, taken to be equally costly; 0: plain training.
    """
    return BACKWARD * plain * ((cost - 1) / subnets if subnets else 1)


def training_hours(step: float, *, gpus: int, batch: int, images: int, epochs: int) -> float:
    """Hours of all steps."""
    return step * epochs * images / (gpus * batch) / 3600


def rows_for(args: argparse.Namespace) -> list[dict]:
    """A row for each number of GPUs."""
    plain, size = args.plain_ms / 1e3, GRADIENT_BYTES * args.parameters
    rows = []
    for gpus in args.gpus:
        link = args.inside if gpus <= args.gpus_per_node else min(args.inside, args.network)
        exchange = all_reduce_seconds(
            size, gpus, bandwidth=1e9 * args.efficiency * link, latency=args.latency_us / 1e6)
        row = {'GPUs': gpus, 'all-reduce ms': 1e3 * exchange}
        for name, cost, subnets in (('plain', 1., 0), ('GradAug', args.cost, args.subnets)):
            hidden = hidden_seconds(plain, cost=cost, subnets=subnets)
            step = step_seconds(cost * plain, exchange, hidden=hidden)
            hours = training_hours(step, gpus=gpus, batch=args.batch, images=args.images, epochs=args.epochs)
            row |= {f'{name} step ms': 1e3 * step, f'{name} computing %': 100 * cost * plain / step,
                    f'{name} hours': hours, f'{name} GPU-hours': gpus * hours}
        rows.append(row)
    return rows


def build_parser() -> argparse.ArgumentParser:
    """The flags; defaults are ResNet-50 on ImageNet, as measured on one H200 (benchmarks/README.md)."""
    parser = StrictParser(prog='python -m benchmarks.cluster_cost', description=__doc__.split('\n')[0])
    for name, kind, default, text in (
            ('plain-ms', float, 29.5, 'time of a plain step on one GPU'),
            ('cost', float, 3.70, 'of a GradAug step, relative to a plain one'),
            ('subnets', int, 3, 'sub-networks a step'),
            ('batch', int, 128, 'images a GPU and step'),
            ('parameters', int, 25_557_032, 'of the network'),
            ('images', int, 1_281_167, 'of an epoch'),
            ('epochs', int, 120, 'of the training'),
            ('gpus-per-node', int, 8, 'GPUs of a machine'),
            ('inside', float, 450., 'GB/s between the GPUs of a machine, in one direction'),
            ('network', float, 12.5, 'GB/s between machines, in one direction and for all GPUs of one'),
            ('efficiency', float, 0.8, 'share of these that is reached'),
    ):
        parser.add_argument(
            f'--{name}', type=ranged(kind, above=0), default=default, help=f'{text} (default: %(default)s)')
    parser.add_argument('--latency-us', type=ranged(float, minimum=0), default=10.,
                        help='microseconds until a piece begins to arrive (default: %(default)s)')
    parser.add_argument('--gpus', type=ranged(int, minimum=1), nargs='+', default=[8, 16, 32, 64, 128, 256],
                        help='numbers of GPUs')
    parser.add_argument('--json', help='file to which the line of JSON is added')
    return parser


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    args = build_parser().parse_args(argv)
    report('cluster_cost', args, rows_for(args))


if __name__ == '__main__':
    main()
