"""Agreement between the processes of a run."""
import hashlib

import torch
import torch.distributed as dist

from .processes import Process


class DisagreementError(RuntimeError):
    """The error that the processes of a run were started differently."""


class SignalAgreement:
    """The maximum of numbers over all processes, computed without waiting for the other processes.

    A call starts an exchange and returns the result of the previous one, which has finished during a training step.
    Exchanges always use gloo, so that the device is not involved.
    """

    def __init__(self, process: Process):
        self._group = dist.new_group(backend='gloo') if process.distributed else None
        self._pending: tuple[torch.Tensor, dist.Work | None] | None = None

    def highest(self, *numbers: int) -> list[int]:
        """Return the maximum of each number over all processes, as of the last call; of a single process, as of now."""
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
    """Check that all processes have the same values.

    Args:
        process: The processes.
        values: The values to compare, by the names for the error.

    Raises:
        DisagreementError: A value differs; the message names the value and the processes.
    """
    if not process.distributed:
        return
    digests = {name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in values.items()}
    everyone = gather(process, digests)
    for name in values:
        others = [rank for rank, theirs in enumerate(everyone) if theirs.get(name) != everyone[0].get(name)]
        if others:
            raise DisagreementError(
                f'the processes differ in {name}: {", ".join(map(str, others))} from process 0; '
                'start all processes with the same command and versions')


def gather(process: Process, value) -> list:
    """Return the value of each process, by rank."""
    if not process.distributed:
        return [value]
    values = [None] * process.world_size
    dist.all_gather_object(values, value)
    return values
