"""What the processes of a run must have in common."""
import hashlib

import torch
import torch.distributed as dist

from .processes import Process


class DisagreementError(RuntimeError):
    """The processes of a run were started differently."""


class SignalAgreement:
    """The highest of numbers that each process has, without waiting for the others.

    What is agreed on at one call is given by the next, when the exchange has long been done beside a step.
    Exchanges go over gloo, whatever the network's gradients go over: the device isn't involved.
    """

    def __init__(self, process: Process):
        self._group = dist.new_group(backend='gloo') if process.distributed else None
        self._pending: tuple[torch.Tensor, dist.Work | None] | None = None

    def highest(self, *numbers: int) -> list[int]:
        """The highest of each number over all processes, as of the last call; of one process, as of now."""
        if self._group is None:
            return list(numbers)
        agreed = [0] * len(numbers)
        if self._pending is not None:
            tensor, work = self._pending
            if work is not None:  # None: no member of the group
                work.wait()
            agreed = tensor.tolist()
        tensor = torch.tensor(numbers)
        work = dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._group, async_op=True)  # type: ignore[arg-type]
        self._pending = tensor, work
        return agreed


def check_alike(process: Process, values: dict[str, object]) -> None:
    """Compares values over the processes, by their digests.

    Args:
        process: The processes.
        values: What to compare, by what it is called.

    Raises:
        DisagreementError: They differ; says which, and between which processes.
    """
    if not process.distributed:
        return
    digests = {name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in values.items()}
    everyone = gather(process, digests)
    for name in values:
        others = [rank for rank, theirs in enumerate(everyone) if theirs.get(name) != everyone[0].get(name)]
        if others:
            raise DisagreementError(
                f'the processes don\'t agree on {name}: {", ".join(map(str, others))} differ from 0; '
                'start all with the same command and versions')


def gather(process: Process, value) -> list:
    """The value of each process, by rank."""
    if not process.distributed:
        return [value]
    values = [None] * process.world_size
    dist.all_gather_object(values, value)
    return values
