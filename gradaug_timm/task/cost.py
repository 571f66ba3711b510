"""The cost of training with GradAug, in multiply-adds relative to plain training."""
import itertools
from collections import Counter
from dataclasses import replace

from torch import nn

from ..elastic import Subnet, multiply_adds, num_blocks
from .sampling import draw_step, images_seen
from .settings import GradAugSettings

COST_SAMPLES = 24  # sub-networks that are measured at most for the estimate of an epoch
MOST_STEPS = 500  # whose draws it averages


class RelativeCost:
    """Estimator of the cost of settings for one network: multiply-adds of a step, averaged over the epochs.

    It is the same for all seeds, so that what follows from it is.

    Args:
        network: An elastic network.
        input_size: Channels, height and width of the images.
        batch: Images in a batch.
        epochs: Epochs of the run.
    """

    def __init__(self, network: nn.Module, input_size: tuple[int, int, int], *, batch: int, epochs: int = 1):
        self._network, self._input_size = network, input_size
        self._batch, self._epochs = batch, max(1, epochs)
        self._measured: dict[tuple, int] = {}
        self._shares: dict[GradAugSettings, float] = {}

    def __call__(self, settings: GradAugSettings) -> float:
        """Return the cost relative to plain training, which is 1."""
        images = images_seen(self._batch, settings.batch_fraction) / self._batch
        return 1 + self._passes(replace(settings, batch_fraction=1.0, interval=1, seed=0)) * images / settings.interval

    def _passes(self, settings: GradAugSettings) -> float:
        """Return the cost of the sub-networks of a step on the whole batch, averaged over the epochs."""
        if settings not in self._shares:
            epochs = Counter(settings.at(epoch) for epoch in range(self._epochs))
            total = sum(count * self._mean_over_draws(each) for each, count in epochs.items())
            self._shares[settings] = total / self._epochs / self._multiply_adds(Subnet(), self._input_size[1:])
        return self._shares[settings]

    def _mean_over_draws(self, settings: GradAugSettings) -> float:  # type: ignore[return]
        """Return the multiply-adds of the sub-networks of a step for one image, averaged over the first steps."""
        blocks = num_blocks(self._network)
        seen, totals = set(), []
        for step in itertools.count():
            draws = draw_step(settings, step, num_blocks=blocks)
            keys = [(draw.subnet, draw.transform.output_size(*self._input_size[1:])) for draw in draws]
            seen.update(keys)
            if (totals and len(seen) > COST_SAMPLES) or step == MOST_STEPS:
                return sum(totals) / len(totals)
            totals.append(sum(self._multiply_adds(*key) for key in keys))

    def _multiply_adds(self, subnet: Subnet, size: tuple[int, int]) -> int:
        if (subnet, size) not in self._measured:
            self._measured[subnet, size] = multiply_adds(self._network, subnet, (self._input_size[0], *size))
        return self._measured[subnet, size]
