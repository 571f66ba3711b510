"""Benchmark cases: a network, its batch, and how it is trained."""
import argparse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.task import ClassificationTask
from torch import nn

import gradaug_timm  # noqa: F401  registers gradaug_* models
from gradaug_timm import GradAugSettings, GradAugTask
from gradaug_timm.cli import Keywords, StrictParser, ranged

PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


@dataclass(frozen=True)
class Case:
    """Network, and how it is trained.

    Args:
        model: Name of the architecture, without `gradaug_`.
        size: Height and width of the images, in pixels.
        batch: Number of images.
        mode: What varies in sub-networks: width, depth or both.
        precision: A key of PRECISIONS.
        channels_last: Use the memory layout channels_last.
        compiled: Compile the network with torch.compile.
        device: Device of the network.
        classes: Number of classes.
        model_kwargs: More arguments of the architecture.
    """
    model: str
    size: int
    batch: int
    mode: str
    precision: str
    channels_last: bool
    compiled: bool
    device: torch.device
    classes: int = 1000
    model_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def network(self) -> nn.Module:
        """Return the network, with the same random weights in each call."""
        torch.manual_seed(0)
        network = timm.create_model(f'gradaug_{self.model}', num_classes=self.classes, **self.model_kwargs)
        return network.to(self.device, memory_format=self.layout).train()

    def images(self) -> torch.Tensor:
        """Return a batch [N, 3, H, W] of random numbers."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(self.batch, 3, self.size, self.size, generator=generator)
        return images.to(self.device, memory_format=self.layout)

    def target(self) -> torch.Tensor:
        """Return class indices [N]."""
        return torch.arange(self.batch, device=self.device) % self.classes

    def settings(self, **given) -> GradAugSettings:
        """Return the paper's settings of GradAug for the size of the images, on a grid of widths."""
        return GradAugSettings.preset(self.size, **{'mode': self.mode, 'subnets': 3, 'batch_fraction': 1., **given})

    def autocast(self) -> AbstractContextManager:
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)


class Step:
    """Training step as in timm: forward, backward, optimizer.

    Args:
        case: The case.
        task: The task.
    """

    def __init__(self, case: Case, task: ClassificationTask):
        self.case, self.task = case, task
        self.images, self.target = case.images(), case.target()
        self.optimizer = create_optimizer_v2(task.trainable_module, opt='sgd', lr=1e-3, momentum=0.9)
        if case.compiled:
            task.compile()

    def __call__(self, number: int) -> torch.Tensor:
        """Run step `number` and return the loss []."""
        self.task.step = number
        with self.case.autocast():
            loss = self.task(self.images, self.target)['loss']
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def plain_step(case: Case) -> Step:
    """Return the step of plain training with timm's task."""
    return Step(case, ClassificationTask(case.network(), nn.CrossEntropyLoss(), verbose=False))


def gradaug_step(case: Case, **settings) -> Step:
    """Return the step of training with GradAug; `settings` override the case's."""
    task = GradAugTask(case.network(), nn.CrossEntropyLoss(), settings=case.settings(**settings), verbose=False)
    return Step(case, task)


def case_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that all benchmarks share."""
    parser = StrictParser(prog=f'python -m benchmarks.{name}', description=description)
    positive = ranged(int, minimum=1)
    parser.add_argument('--model', default='resnet50', help='architecture, without gradaug_ (default: %(default)s)')
    parser.add_argument(
        '--model-kwargs', nargs='*', default={}, action=Keywords, metavar='KEY=VALUE',
        help='more arguments of the architecture')
    parser.add_argument(
        '--size', type=positive, default=160, help='height and width of images, in pixels (default: %(default)s)')
    parser.add_argument('--batch', type=positive, default=16, help='images in a batch (default: %(default)s)')
    parser.add_argument('--classes', type=positive, default=1000, help='number of classes (default: %(default)s)')
    parser.add_argument(
        '--mode', choices=('width', 'depth', 'both'), default='width',
        help='what varies in sub-networks (default: %(default)s)')
    parser.add_argument(
        '--precision', choices=PRECISIONS, default='fp32', help='precision of autocast (default: %(default)s)')
    parser.add_argument('--channels-last', action='store_true', help='use the memory layout channels_last')
    parser.add_argument('--torchcompile', action='store_true', help='compile the network with torch.compile')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device (default: %(default)s)')
    parser.add_argument(
        '--threads', type=positive, default=torch.get_num_threads(), help='number of threads (default: %(default)s)')
    parser.add_argument('--repeats', type=positive, default=10, help='timed repetitions (default: %(default)s)')
    parser.add_argument(
        '--warmup', type=positive, default=2, help='repetitions before the timed ones (default: %(default)s)')
    parser.add_argument('--json', default='', metavar='FILE', help='append the result as a line of JSON to this file')
    return parser


def case_from(args: argparse.Namespace) -> Case:
    """Return the case that the flags describe, and set the number of threads."""
    torch.set_num_threads(args.threads)
    return Case(args.model, args.size, args.batch, args.mode, args.precision, args.channels_last, args.torchcompile,
                torch.device(args.device), args.classes, args.model_kwargs)
