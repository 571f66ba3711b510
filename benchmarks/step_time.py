"""Time a GradAug step against plain training, against its passes, and against dense networks of the same size."""
import itertools
from dataclasses import replace

import torch
import torch.nn.functional as F
from timm.utils import unwrap_model
from torch import nn

from gradaug_timm import GradAugTask
from gradaug_timm.elastic import activate, extract, multiply_adds
from gradaug_timm.task.losses import softmax_divergence
from gradaug_timm.task.sampling import Draw
from gradaug_timm.task.transforms import apply_transform

from .case import Case, Step, case_from, case_parser, gradaug_step, plain_step
from .instant import make_instant
from .record import report
from .timing import Times, medians, ratio, take_turns

PLAIN, GRADAUG, FULL, SUBNETS, DENSE = (
    'plain step', 'GradAug step', 'full network alone', 'sub-networks alone', 'sub-networks as dense networks')
PAPER = 'GradAug step as in the paper'
PLAIN_INSTANT, GRADAUG_INSTANT = 'plain step without its network', 'GradAug step without its network'


class Passes:
    """Forward and backward passes of the sub-networks of each step, one after the other.

    Args:
        case: The case.
        draws: The sub-networks of each step.
    """

    def __init__(self, case: Case, draws: list[list[Draw]]):
        self.case, self.draws = case, draws
        self.network, self.images, self.target = case.network(), case.images(), case.target()
        self.output = torch.randn(case.batch, case.classes, generator=torch.Generator().manual_seed(0)).to(case.device)
        subnets = dict.fromkeys(draw.subnet for step in draws for draw in step)
        self.dense = {subnet: self._ready(extract(self.network, subnet)) for subnet in subnets}
        self.inputs = {draw.transform: apply_transform(self.images, draw.transform).clone(memory_format=case.layout)
                       for step in draws for draw in step}
        self.network = self._ready(self.network)

    def _ready(self, network: nn.Module) -> nn.Module:
        network = network.to(memory_format=self.case.layout).train()
        return torch.compile(network, dynamic=False) if self.case.compiled else network

    def to(self, dtype: torch.dtype) -> None:
        """Convert the networks and their inputs."""
        for network in (self.network, *self.dense.values()):
            network.to(dtype)
        self.images = self.images.to(dtype)
        self.inputs = {transform: images.to(dtype) for transform, images in self.inputs.items()}

    def full(self, number: int) -> None:
        """Run the pass of the full network."""
        with self.case.autocast():
            loss = F.cross_entropy(self.network(self.images), self.target)
        self._finish(self.network, loss)

    def subnets(self, number: int) -> None:
        """Run the sub-networks of a step as GradAug does."""
        for draw in self.draws[number]:
            with activate(self.network, draw.subnet):
                with self.case.autocast():
                    loss = softmax_divergence(
                        self.network(apply_transform(self.images, draw.transform)), self.output)
                self._finish(self.network, loss)

    def dense_subnets(self, number: int) -> None:
        """Run the sub-networks of a step as small dense networks, on images that are already transformed."""
        for draw in self.draws[number]:
            network = self.dense[draw.subnet]
            with self.case.autocast():
                loss = softmax_divergence(network(self.inputs[draw.transform]), self.output)
            self._finish(network, loss)

    def _finish(self, network: nn.Module, loss: torch.Tensor) -> None:
        loss.backward()
        network.zero_grad(set_to_none=True)

    def relative_multiply_adds(self) -> float:
        """Return the multiply-adds of a GradAug step, divided by those of a plain step."""
        size = 3, self.case.size, self.case.size
        full = multiply_adds(self.network, None, size)
        each = {draw: multiply_adds(self.network, draw.subnet, tuple(self.inputs[draw.transform].shape[1:]))
                for step in self.draws for draw in step}
        return 1 + sum(each[draw] for step in self.draws for draw in step) / len(self.draws) / full


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = case_parser('step_time', __doc__)
    parser.add_argument(
        '--paper', action='store_true',
        help='also time a step as in the paper: continuous widths, divisor 1, contiguous layout, single precision')
    args = parser.parse_args(argv)
    case = case_from(args)
    plain, gradaug = plain_step(case), gradaug_step(case)
    rounds = max(args.repeats, args.warmup)  # every timed pass has run before, as in a long training
    draws = [gradaug.task.draws(number) for number in range(rounds)]
    passes = Passes(case, draws)
    runs = {PLAIN: plain, GRADAUG: gradaug, FULL: passes.full, SUBNETS: passes.subnets, DENSE: passes.dense_subnets}
    for name, step in ((PLAIN_INSTANT, plain_step(case)), (GRADAUG_INSTANT, gradaug_step(case))):
        make_instant(unwrap_model(step.task.trainable_module), passes.output)
        runs[name] = step
    if args.paper:
        plainest = replace(case, channels_last=False, precision='fp32', compiled=False)
        runs[PAPER] = Step(plainest, PaperTask(plainest, draws))
    times = take_turns(runs, repeats=args.repeats, warmup=rounds, device=case.device)
    rows = [{'what': name, 'value': value, 'unit': 'ms'} for name, value in medians(times).items()]
    rows += [{'what': name, 'value': value, 'unit': 'times'} for name, value in ratios(times).items()]
    rows.append({'what': 'cost by multiply-adds', 'value': passes.relative_multiply_adds(), 'unit': 'times'})
    report('step_time', args, rows)


class PaperTask(GradAugTask):
    """GradAug with divisor 1 and continuous widths, which differ in every step, at the sizes of other draws.

    Args:
        case: The case.
        draws: The draws whose transformations are used.
    """

    def __init__(self, case: Case, draws: list[list[Draw]]):
        super().__init__(case.network(), nn.CrossEntropyLoss(), settings=case.settings(width_steps=0, divisor=1))
        self._others = draws
        self._steps = itertools.count()

    def draws(self, step: int) -> list[Draw]:
        return [replace(draw, transform=other.transform)
                for draw, other in zip(super().draws(next(self._steps)), self._others[step])]


def ratios(times: Times) -> dict[str, float]:
    """Return the cost of GradAug, and the parts of it that could be saved."""
    found = {
        'overhead: GradAug step / (plain step + dense networks)': ratio(times, [GRADAUG], [PLAIN, DENSE]),
        'slicing: sub-networks alone / dense networks': ratio(times, [SUBNETS], [DENSE]),
        'task: GradAug step / (plain step + sub-networks alone)': ratio(times, [GRADAUG], [PLAIN, SUBNETS]),
        'cost: GradAug step / plain step': ratio(times, [GRADAUG], [PLAIN]),
    }
    found['bookkeeping: what GradAug adds without its network / GradAug step'] = (
        ratio(times, [GRADAUG_INSTANT], [GRADAUG]) - ratio(times, [PLAIN_INSTANT], [GRADAUG]))
    if PAPER in times:
        found['speed-up: step as in the paper / GradAug step'] = ratio(times, [PAPER], [GRADAUG])
    return found


if __name__ == '__main__':
    main()
