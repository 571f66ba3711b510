"""Base of training tasks with sub-networks: step counter, draws of sub-networks, and task state."""
import torch
from torch import nn

from .loss_scale import EarlyLossScale
from .sampling import Draw, draw_step
from .settings import GradAugSettings


class SubnetSteps:
    """Mixin for training tasks of timm that counts steps and draws the sub-networks of a step from the step's number.

    Attributes:
        settings: Settings of GradAug.
        step: Number of the next step.
        epoch: Number of the current epoch, used by `settings.off_epoch` and `settings.size_epochs`.
    """
    settings: GradAugSettings
    device: torch.device
    step: int = 0
    epoch: int = 0
    _early_scale: EarlyLossScale
    _num_blocks: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the current epoch."""
        self.epoch = epoch

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict:
        return {} if ema else {'step': self.step, 'loss_scale': self._early_scale.state_dict()}

    def load_task_state(self, state, strict=True, module=None, ema=False) -> None:
        if state and not ema:
            self.step = state['step']
            self._early_scale.load_state_dict(state['loss_scale'], self.device)

    def draws(self, step: int) -> list[Draw]:
        """Return the sub-networks of training step `step` in the current epoch, the widest first."""
        if step % self.settings.interval:
            return []
        return draw_step(self.settings.at(self.epoch), step, num_blocks=self._num_blocks)

    def _next_draws(self) -> list[Draw]:
        self.step += 1
        return self.draws(self.step - 1)

    def _fp16_scale(self, device_type: str) -> EarlyLossScale | None:
        is_fp16 = torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) == torch.float16
        return self._early_scale if is_fp16 else None
