"""Compute the cost of exchanging gradients between many GPUs and the time of a training; nothing is run.

Training is data parallel: each GPU has `--batch` images in a step, and gradients are 32-bit and summed by a ring. DDP
exchanges gradients while backward computes; with GradAug this is only the backward pass of the last sub-network.
"""
import argparse

from gradaug_timm.cli import StrictParser, ranged

from .record import report

BACKWARD = 2 / 3  # share of a pass: backward computes twice as much as forward
GRADIENT_BYTES = 4  # bytes of a gradient: DDP sums in the weights' float32, also under autocast


def all_reduce_seconds(size: float, gpus: int, *, bandwidth: float, latency: float) -> float:
    """Return the time in which a ring sums `size` bytes: each GPU sends 2 (n - 1) pieces of size / n.

    Args:
        size: Bytes of the gradients.
        gpus: Number of GPUs, n.
        bandwidth: Bytes per second of the slowest link, in one direction.
        latency: Seconds until a piece begins to arrive.
    """
    pieces = 2 * (gpus - 1)
    return pieces * (size / gpus / bandwidth + latency)


def step_seconds(compute: float, exchange: float, *, hidden: float) -> float:
    """Return the time of a step: the exchange adds the time that exceeds `hidden` seconds of backward."""
    return compute + max(0., exchange - hidden)


def hidden_seconds(plain: float, *, cost: float, subnets: int) -> float:
    """Return how long DDP can exchange gradients while backward computes.

    Args:
        plain: Seconds of computation in a plain step.
        cost: Cost of a GradAug step, relative to a plain step.
        subnets: Sub-networks in a step, assumed to be equally costly; 0 for plain training.
    """
    return BACKWARD * plain * ((cost - 1) / subnets if subnets else 1)


def training_hours(step: float, *, gpus: int, batch: int, images: int, epochs: int) -> float:
    """Return the hours of all steps."""
    return step * epochs * images / (gpus * batch) / 3600


def rows_for(args: argparse.Namespace) -> list[dict]:
    """Return a row for each number of GPUs."""
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
    """Return the parser; defaults are ResNet-50 on ImageNet, as measured on one H200 (benchmarks/README.md)."""
    parser = StrictParser(prog='python -m benchmarks.cluster_cost', description=__doc__.split('\n')[0])
    for name, kind, default, text in (
            ('plain-ms', float, 29.5, 'time of a plain step on one GPU'),
            ('cost', float, 3.70, 'cost of a GradAug step, relative to a plain step'),
            ('subnets', int, 3, 'sub-networks in a step'),
            ('batch', int, 128, 'images on each GPU in a step'),
            ('parameters', int, 25_557_032, 'parameters of the network'),
            ('images', int, 1_281_167, 'images in an epoch'),
            ('epochs', int, 120, 'epochs of the training'),
            ('gpus-per-node', int, 8, 'GPUs in a machine'),
            ('inside', float, 450., 'GB/s between the GPUs of a machine, in one direction'),
            ('network', float, 12.5, 'GB/s between machines, in one direction and for all GPUs of a machine'),
            ('efficiency', float, 0.8, 'share of these bandwidths that is reached'),
    ):
        parser.add_argument(
            f'--{name}', type=ranged(kind, above=0), default=default, help=f'{text} (default: %(default)s)')
    parser.add_argument('--latency-us', type=ranged(float, minimum=0), default=10.,
                        help='microseconds until a piece begins to arrive (default: %(default)s)')
    parser.add_argument('--gpus', type=ranged(int, minimum=1), nargs='+', default=[8, 16, 32, 64, 128, 256],
                        help='numbers of GPUs')
    parser.add_argument('--json', help='append the result as a line of JSON to this file')
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    report('cluster_cost', args, rows_for(args))


if __name__ == '__main__':
    main()
