"""The scale by which losses are multiplied under fp16, so that small gradients don't vanish."""
from collections.abc import Callable

import torch

from ..upstream import foreach_unscale_, update_scale_

INITIAL_SCALE, GROWTH_FACTOR, BACKOFF_FACTOR, GROWTH_INTERVAL = 2.0 ** 16, 2.0, 0.5, 2000  # torch.amp.GradScaler's


class EarlyLossScale:
    """The scale of the passes that are differentiated before the caller's `backward()`.

    Args:
        source: Gives the scale [] that the caller's scaler uses, or None while it has none. Without a source the scale
            is halved after a step whose gradients overflow, and doubled after 2,000 without; none of that waits for the
            device. Skipping a step with an overflow is left to the caller's scaler.
    """

    def __init__(self, source: Callable[[], torch.Tensor | None] | None = None):
        self._source = source
        self._own: torch.Tensor | None = None
        self._growth: torch.Tensor | None = None

    def current(self, device: torch.device) -> torch.Tensor:
        """The scale [] of this step, in float32."""
        scale = self._own if self._source is None else self._source()
        if scale is None:
            scale = torch.full((), INITIAL_SCALE, dtype=torch.float32, device=device)
            if self._source is None:
                self._own, self._growth = scale, torch.zeros((), dtype=torch.int32, device=device)
        return scale.clone()

    def unscale(self, gradients: list[torch.Tensor], scale: torch.Tensor) -> None:
        """Divides `gradients` by `scale`, in place (an overflow stays Inf or NaN), and adapts a scale of our own."""
        overflow = torch.zeros((), dtype=torch.float32, device=scale.device)
        foreach_unscale_(gradients, overflow, scale.reciprocal())
        if self._source is None:
            update_scale_(
                self._own, self._growth, overflow, GROWTH_FACTOR, BACKOFF_FACTOR, GROWTH_INTERVAL)

    def state_dict(self) -> dict:
        return {} if self._own is None else {'scale': self._own.cpu(), 'growth': self._growth.cpu()}

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        if state:
            self._own, self._growth = state['scale'].to(device), state['growth'].to(device)
