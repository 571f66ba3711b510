"""Measure images per second by width of sub-networks, with channels in multiples of several divisors."""
import torch
import torch.nn.functional as F

from gradaug_timm.elastic import Subnet, activate, multiply_adds

from .case import case_from, case_parser
from .record import report
from .timing import medians, take_turns


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = case_parser('widths', __doc__)
    parser.add_argument('--widths', type=float, nargs='+', default=[0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0],
                        help='widths of sub-networks (default: %(default)s)')
    parser.add_argument('--divisors', type=int, nargs='+', default=[1, 8, 16, 32],
                        help='divisors of channel counts (default: %(default)s)')
    args = parser.parse_args(argv)
    case = case_from(args)
    network, images, target = case.network(), case.images(), case.target()
    subnets = [Subnet(width, divisor) for width in args.widths for divisor in args.divisors]
    size = 3, case.size, case.size
    shares = {subnet: multiply_adds(network, subnet, size) / multiply_adds(network, None, size) for subnet in subnets}
    compiled = torch.compile(network, dynamic=False) if case.compiled else network

    def step(subnet: Subnet) -> None:
        with activate(network, subnet):
            with case.autocast():
                loss = F.cross_entropy(compiled(images), target)
            loss.backward()
        network.zero_grad()

    runs = {str(index): (lambda number, subnet=subnet: step(subnet)) for index, subnet in enumerate(subnets)}
    times = medians(take_turns(runs, repeats=args.repeats, warmup=args.warmup, device=case.device))
    full = min(times[str(index)] for index, subnet in enumerate(subnets) if subnet.width == max(args.widths))
    report('widths', args, [{
        'width': subnet.width, 'divisor': subnet.divisor, 'images/s': 1e3 * case.batch / times[str(index)],
        'multiply-adds': shares[subnet], 'time': times[str(index)] / full,
        'time per multiply-add': times[str(index)] / full / shares[subnet],
    } for index, subnet in enumerate(subnets)])


if __name__ == '__main__':
    main()
