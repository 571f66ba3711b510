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
    """Where this process computes, and its place among the others."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    distributed: bool = False

    @property
    def primary(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0


def start_process(device: str | None) -> Process:
    """Joins the other processes where torchrun or Slurm started several: over NCCL on CUDA, over gloo on the CPU.

    Raises:
        ValueError: There is no such device.
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
        """What --amp, --amp-dtype and --model-dtype say."""
        model_dtype = getattr(torch, args.model_dtype) if args.model_dtype else None
        return cls(device, model_dtype, getattr(torch, args.amp_dtype) if args.amp else None)

    def autocast(self) -> AbstractContextManager:
        """Context of forward passes."""
        if self.amp_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)

    def create_scaler(self) -> NativeScaler | None:
        """A loss scaler, which only float16 needs."""
        return NativeScaler(device=self.device.type) if self.amp_dtype == torch.float16 else None
