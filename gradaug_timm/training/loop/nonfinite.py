"""Detection of losses, weights and statistics that are no longer finite."""
import logging

import torch
import torch.distributed as dist
from timm.utils import NativeScaler
from torch import nn

from ...upstream import foreach_norm, loss_scale_tensor

_logger = logging.getLogger(__name__)

REMEDY = 'use a lower --lr, or limit gradients with --clip-grad'
SKIPPING_LIMIT = 10  # default limit of a run with a loss scaler, which skips such steps


class DivergedError(RuntimeError):
    """The error that the loss, a weight or a running statistic is no longer finite."""


class NonfiniteMonitor:
    """A counter of losses that are not finite, on the device; only `check` waits for the device.

    Args:
        network: The network.
        scaler: The loss scaler under float16, which skips steps whose gradients overflow.
        limit: Number of batches with a loss that is not finite, after which the run ends; None: 10 with a scaler,
            else 1.
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
        """Whether updates with gradients that are not finite are skipped without a scaler."""
        return self._scaler is None and self.limit > 1

    def update(self, loss: torch.Tensor, *, updated: bool) -> None:
        """Count a batch; `updated` says whether an update followed."""
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
        """Count an update that was skipped because of its gradients."""
        self._left_out += 1

    def check(self, when: str) -> None:
        """Log new batches and updates that were not finite.

        Raises:
            DivergedError: Too many losses were not finite, or a weight or running statistic is not.
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
            also = f', and neither is {kept}' if kept and bad else ''
            times = f' ({bad} batches)' if bad > 1 else ''
            raise DivergedError(f'{"the loss" if bad else kept} is no longer finite {when}{times}{also}; {REMEDY}')
        _logger.warning(
            f'So far {bad} batches had a loss that is not finite, and {skipped} updates were skipped '
            f'({when}; the run ends at {self.limit} such batches).')


@torch.no_grad()
def finite_gradients(network: nn.Module) -> bool:
    """Return whether all gradients are finite; this waits for the device."""
    return _all_finite([parameter.grad for parameter in network.parameters() if parameter.grad is not None])


@torch.no_grad()
def first_nonfinite(network: nn.Module) -> str | None:
    """Return the first running statistic or weight that is not finite, or None; this waits for the device."""
    kinds = {'running statistic': network.named_buffers(), 'weight': network.named_parameters()}
    for kind, tensors in kinds.items():
        named = {name: tensor for name, tensor in tensors if tensor.is_floating_point()}
        if not _all_finite(list(named.values())):
            return f'the {kind} {next(name for name, tensor in named.items() if not tensor.isfinite().all())}'
    return None


def _all_finite(tensors: list[torch.Tensor]) -> bool:
    """Return whether all entries are finite; otherwise the largest magnitude of a tensor is Inf or NaN."""
    filled = [tensor for tensor in tensors if tensor.numel()]
    if not filled:
        return True
    return bool(torch.stack([norm.float() for norm in foreach_norm(filled, float('inf'))]).isfinite().all())
