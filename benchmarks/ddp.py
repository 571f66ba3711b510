"""Measure a GradAug step in one process and in several processes, and the share of communication.

Each process has the whole --batch, so without communication the times would be equal with one device per process.
"""
import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from .case import Case, case_from, case_parser, gradaug_step
from .record import report
from .timing import medians, take_turns


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = case_parser('ddp', __doc__)
    parser.add_argument('--processes', type=int, default=2, help='number of processes (default: %(default)s)')
    args = parser.parse_args(argv)
    case = case_from(args)
    rows = []
    for processes in (1, args.processes):
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(_measure, (processes, folder, case, args), processes)
            rows.append(torch.load(os.path.join(folder, 'row.pt')))
    report('ddp', args, rows)


def _measure(rank: int, processes: int, folder: str, case: Case, args) -> None:
    """Measure in one process; the first process writes the row."""
    torch.set_num_threads(args.threads)
    if case.device.type == 'cuda':
        torch.cuda.set_device(rank)
    dist.init_process_group(
        'nccl' if case.device.type == 'cuda' else 'gloo', init_method=f'file://{folder}/store',
        rank=rank, world_size=processes)
    silent, talking = gradaug_step(case), gradaug_step(case)
    talking.task.prepare_distributed(device_ids=[rank] if case.device.type == 'cuda' else None)
    times = take_turns(
        {'alone': silent, 'with communication': talking}, repeats=args.repeats, warmup=args.warmup, device=case.device)
    found = medians(times)
    if rank == 0:
        share = 1 - found['alone'] / found['with communication']
        torch.save({'processes': processes, 'step without communication, ms': found['alone'],
                    'step, ms': found['with communication'], 'communication': share,
                    'gradients equal': gradients_equal(silent, talking)}, os.path.join(folder, 'row.pt'))
    else:
        gradients_equal(silent, talking)
    dist.destroy_process_group()


def gradients_equal(silent, talking) -> bool:
    """Return whether the gradients of a distributed step are the mean of the gradients of single processes."""
    found = []
    for step in (silent, talking):
        step.task.step = 0
        step.task.trainable_module.load_state_dict(
            {f'module.{name}' if step is talking else name: value
             for name, value in silent.case.network().state_dict().items()})
        step.task(step.images + dist.get_rank(), step.target)['loss'].backward()
        found.append([parameter.grad for parameter in step.task.trainable_module.parameters()])
    for gradient in found[0]:
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max())) for a, b in zip(*found))


if __name__ == '__main__':
    main()
