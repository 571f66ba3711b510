"""The device and the processes of a run."""
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from timm.utils import NativeScaler

from ..devices import pick_device
from ..upstream import init_distributed_device_so
from .arguments.run import DeviceSettings

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Process:
    """The device and the rank of this process."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    distributed: bool = False

    @property
    def primary(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0


def start_process(device: str | None) -> Process:
    """Connect the processes that torchrun or Slurm started: over NCCL on CUDA, over gloo on the CPU.

    Raises:
        ValueError: The device does not exist.
    """
    chosen = pick_device(device)
    found = init_distributed_device_so(str(chosen))
    if chosen.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    process = Process(torch.device(found['device']), found['global_rank'], found['world_size'], found['distributed'])
    _logger.info(f'Process {process.rank + 1} of {process.world_size} on {process.device}.')
    return process


@dataclass(frozen=True)
class Precision:
    """Types of weights and activations."""

    device: torch.device
    model_dtype: torch.dtype | None = None
    amp_dtype: torch.dtype | None = None

    @classmethod
    def from_args(cls, args: DeviceSettings, device: torch.device) -> 'Precision':
        """Return the precision that --amp, --amp-dtype and --model-dtype select."""
        model_dtype = getattr(torch, args.model_dtype) if args.model_dtype else None
        return cls(device, model_dtype, getattr(torch, args.amp_dtype) if args.amp else None)

    def autocast(self) -> AbstractContextManager:
        """Return the context manager for forward passes."""
        if self.amp_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)

    def create_scaler(self) -> NativeScaler | None:
        """Return a loss scaler for float16; None for other types, which need none."""
        return NativeScaler(device=self.device.type) if self.amp_dtype == torch.float16 else None
