"""Compute the least time of a training step on a device from its data sheet: operations and bytes of every kernel.

The device is not needed; everything is in bf16. A kernel takes the time of its operations at peak speed, or the time of
its inputs and outputs at the memory's bandwidth, whichever is longer. Nothing is fused, as in eager mode, and nothing
stays in caches.
"""
import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .case import case_from, case_parser, gradaug_step, plain_step
from .record import report
from .step_time import Passes


class Roofline(TorchDispatchMode):
    """Mode that adds up operations and bytes of all kernels.

    Args:
        operations: Peak operations per second of the device.
        bandwidth: Bytes per second of the device's memory.
    """

    def __init__(self, operations: float, bandwidth: float):
        super().__init__()
        self.peak, self.bandwidth = operations, bandwidth
        self.total = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        operations = 0
        if func.overloadpacket in flop_registry:
            operations = flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        moved = sum(x.numel() * x.element_size() for x in {id(x): x for x in tensors}.values())
        self.total.update(
            kernels=1, operations=operations, bytes=moved, compute=operations / self.peak,
            memory=moved / self.bandwidth, floor=max(operations / self.peak, moved / self.bandwidth))
        return out


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = case_parser('floor', __doc__.split('\n')[0])
    parser.add_argument('--peak', type=float, default=790, help='peak TFLOP/s (default: %(default)s, H200 in bf16)')
    parser.add_argument(
        '--bandwidth', type=float, default=4.3, help='memory bandwidth in TB/s (default: %(default)s, H200)')
    args = parser.parse_args(argv)
    case = replace(case_from(args), device=torch.device('meta'), precision='fp32', compiled=False)
    with torch.device('meta'):
        plain, gradaug = plain_step(case), gradaug_step(case)
        passes = Passes(case, [gradaug.task.draws(number) for number in range(args.repeats)])
    plain.task.to(torch.bfloat16)
    plain.images = plain.images.to(torch.bfloat16)
    passes.to(torch.bfloat16)
    plain(0)  # creates the state of the optimizer
    first = _per_step(plain, args)
    rest = _per_step(passes.dense_subnets, args)
    both = Counter(first)
    both.update(rest)
    report('floor', args, [{
        'what': name, 'GFLOP': total['operations'] / 1e9, 'GB': total['bytes'] / 1e9,
        'compute ms': 1e3 * total['compute'], 'memory ms': 1e3 * total['memory'], 'floor ms': 1e3 * total['floor'],
        'kernels': total['kernels'], 'cost': total['floor'] / first['floor'],
    } for name, total in (('plain step', first), ('sub-networks', rest), ('GradAug step', both))])


def _per_step(run: Callable[[int], object], args: argparse.Namespace) -> Counter:
    """Return the totals of a step, as mean over `--repeats` steps."""
    with Roofline(1e12 * args.peak, 1e12 * args.bandwidth) as roofline:
        for number in range(args.repeats):
            run(number)
    return Counter({name: value / args.repeats for name, value in roofline.total.items()})


if __name__ == '__main__':
    main()
