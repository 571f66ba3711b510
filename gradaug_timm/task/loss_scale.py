"""Loss scale for fp16: losses are multiplied by it so that small gradients do not vanish."""
from collections.abc import Callable

import torch

from ..upstream import foreach_unscale_, update_scale_

INITIAL_SCALE, GROWTH_FACTOR, BACKOFF_FACTOR, GROWTH_INTERVAL = 2.0 ** 16, 2.0, 0.5, 2000  # as in torch.amp.GradScaler


class EarlyLossScale:
    """Loss scale of passes that are differentiated before the caller's `backward()`.

    Args:
        source: Function that returns the scale [] of the caller's scaler, or None while the scaler has none. Without a
            source, the scale is halved after a step whose gradients overflow and doubled after 2,000 steps without
            overflow, without waiting for the device. The caller's scaler must skip steps that overflow.
    """

    def __init__(self, source: Callable[[], torch.Tensor | None] | None = None):
        self._source = source
        self._own: torch.Tensor | None = None
        self._growth: torch.Tensor | None = None

    def current(self, device: torch.device) -> torch.Tensor:
        """Return the scale [] of this step, in float32."""
        scale = self._own if self._source is None else self._source()
        if scale is None:
            scale = torch.full((), INITIAL_SCALE, dtype=torch.float32, device=device)
            if self._source is None:
                self._own, self._growth = scale, torch.zeros((), dtype=torch.int32, device=device)
        return scale.clone()

    def unscale(self, gradients: list[torch.Tensor], scale: torch.Tensor) -> None:
        """Divide `gradients` by `scale` in place (an overflow stays Inf or NaN), and update the scale if it is ours."""
        overflow = torch.zeros((), dtype=torch.float32, device=scale.device)
        foreach_unscale_(gradients, overflow, scale.reciprocal())
        if self._source is None and self._own is not None and self._growth is not None:
            update_scale_(
                self._own, self._growth, overflow, GROWTH_FACTOR, BACKOFF_FACTOR, GROWTH_INTERVAL)

    def state_dict(self) -> dict:
        if self._own is None or self._growth is None:
            return {}
        return {'scale': self._own.cpu(), 'growth': self._growth.cpu()}

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        if state:
            self._own, self._growth = state['scale'].to(device), state['growth'].to(device)
