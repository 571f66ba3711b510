"""Losses, weights and statistics that are no longer finite."""
import logging

import torch
import torch.distributed as dist
from timm.utils import NativeScaler
from torch import nn

from ...upstream import foreach_norm, loss_scale_tensor

_logger = logging.getLogger(__name__)

REMEDY = 'lower --lr, or limit gradients by --clip-grad'
SKIPPING_LIMIT = 10  # steps; of a run with a loss scaler, which skips them


class DivergedError(RuntimeError):
    """The loss, a weight or a running statistic is no longer a number."""


class NonfiniteMonitor:
    """Counts what isn't finite on the device; only `check` waits for it.

    Args:
        network: The network.
        scaler: The loss scaler under float16, which skips steps whose gradients overflow.
        limit: End the run after so many batches with a loss that isn't finite; None: 10 with a scaler, else 1.
        distributed: Whether other processes train on other batches.
    """

    def __init__(
            self,
            network: nn.Module,
            scaler: NativeScaler | None = None,
            limit: int | None = None,
            *,
            distributed: bool = False,
    ):
        self._network, self._scaler, self._distributed = network, scaler, distributed
        self.limit = limit or (1 if scaler is None else SKIPPING_LIMIT)
        self._counts: torch.Tensor | None = None  # batches with a bad loss; updates that the scaler skipped
        self._scale: torch.Tensor | None = None
        self._left_out = 0
        self._reported = [0, 0]

    @property
    def skips(self) -> bool:
        """Whether updates with bad gradients are left out by looking at them, without a scaler."""
        return self._scaler is None and self.limit > 1

    def update(self, loss: torch.Tensor, *, updated: bool) -> None:
        """Counts a batch; `updated` says whether an update followed."""
        if self._counts is None:
            self._counts = torch.zeros(2, dtype=torch.int64, device=loss.device)
        self._counts[0] += ~loss.detach().isfinite()
        if self._scaler is None or not updated:
            return
        scale = loss_scale_tensor(self._scaler)
        if scale is None:
            return
        if self._scale is not None:
            self._counts[1] += scale < self._scale
        self._scale = scale.clone()

    def leave_out(self) -> None:
        """Counts an update that was left out for its gradients."""
        self._left_out += 1

    def check(self, when: str) -> None:
        """Logs what is new.

        Raises:
            DivergedError: Too many losses weren't finite, or what the network keeps isn't.
        """
        if self._counts is None:
            return
        counts = self._counts.clone()
        if self._distributed:
            dist.all_reduce(counts[:1])
        bad, skipped = counts.tolist()
        skipped += self._left_out
        if [bad, skipped] == self._reported:
            return
        self._reported = [bad, skipped]
        kept = first_nonfinite(self._network)
        if bad >= self.limit or kept is not None:
            also = f', nor is {kept}' if kept and bad else ''
            times = f' ({bad} batches)' if bad > 1 else ''
            raise DivergedError(f'{"the loss" if bad else kept} is no longer finite {when}{times}{also}: {REMEDY}')
        _logger.warning(
            f'Until now {bad} batches had a loss that isn\'t finite, and {skipped} updates were left out '
            f'({when}; the run ends at {self.limit} such batches).')


@torch.no_grad()
def finite_gradients(network: nn.Module) -> bool:
    """Whether all gradients are; waits for the device."""
    return _all_finite([parameter.grad for parameter in network.parameters() if parameter.grad is not None])


@torch.no_grad()
def first_nonfinite(network: nn.Module) -> str | None:
    """The first running statistic, or weight, that isn't finite; None if all are. Waits for the device."""
    kinds = {'running statistic': network.named_buffers(), 'weight': network.named_parameters()}
    for kind, tensors in kinds.items():
        named = {name: tensor for name, tensor in tensors if tensor.is_floating_point()}
        if not _all_finite(list(named.values())):
            return f'the {kind} {next(name for name, tensor in named.items() if not tensor.isfinite().all())}'
    return None


def _all_finite(tensors: list[torch.Tensor]) -> bool:
    """Largest magnitudes are Inf or NaN where something is."""
    filled = [tensor for tensor in tensors if tensor.numel()]
    if not filled:
        return True
    return bool(torch.stack([norm.float() for norm in foreach_norm(filled, float('inf'))]).isfinite().all())
