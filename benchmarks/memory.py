"""Measure the peak memory of a GradAug step and a plain step: parameters, optimizer state and activations."""
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from .case import Case, Step, case_from, case_parser, gradaug_step, plain_step
from .record import report

MIB = 2 ** 20


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = case_parser('memory', __doc__).parse_args(argv)
    case = case_from(args)
    peaks = {name: peak_of_steps(make, case, args.warmup + args.repeats)
             for name, make in (('plain step', plain_step), ('GradAug step', gradaug_step))}
    rows = [{'what': name, 'value': peak / MIB, 'unit': 'MiB'} for name, peak in peaks.items()]
    rows.append({'what': 'GradAug step / plain step', 'value': peaks['GradAug step'] / peaks['plain step'],
                 'unit': 'times'})
    report('memory', args, rows)


def peak_of_steps(make: Callable[[Case], Step], case: Case, steps: int) -> int:
    """Return the bytes that are allocated at the peak of some steps, with parameters and all state of training.

    Args:
        make: Function that makes the step.
        case: The case.
        steps: Number of steps; the first steps create state that is kept.
    """
    step = make(case)
    step(0)
    measure = _peak_on_cuda if case.device.type == 'cuda' else _peak_on_cpu
    return max(measure(lambda number=number: step(number)) + _kept(step, case) for number in range(steps))


def _kept(step: Step, case: Case) -> int:
    """Return the bytes that are kept between steps on the CPU; on CUDA the allocator already counts them."""
    if case.device.type == 'cuda':
        return 0
    network = step.task.trainable_module
    state = [value for values in step.optimizer.state.values() for value in values.values()]
    tensors = [*network.parameters(), *network.buffers(), step.images, step.target, *state]
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))


def _peak_on_cuda(run: Callable[[], object]) -> int:
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated()


def _peak_on_cpu(run: Callable[[], object]) -> int:
    """Return the peak of bytes above the start, from the profiler's record of allocations."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == '[memory]']
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


if __name__ == '__main__':
    main()
