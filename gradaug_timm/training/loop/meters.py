"""Means of losses that are summed on the device and read only when asked."""
import torch
import torch.distributed as dist


class LossMeter:
    """Means of named losses over images; steps where a loss isn't finite are left out and counted.

    Nothing is read from the device before `compute`, so that a step never waits for it.
    """

    def __init__(self):
        self._totals: dict[tuple[str, ...], torch.Tensor] = {}
        self._images = 0

    def update(self, losses: dict[str, torch.Tensor], images: int) -> None:
        """Adds the losses of one step; not all steps need to have the same."""
        self._add(tuple(losses), _weighted(losses, images), images)

    def compute(self, *, distributed: bool = False) -> dict[str, float]:
        """The mean of each loss; NaN where no step had a finite one."""
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for names, total in self._read(distributed):
            for name, loss, count in zip(names, *total):
                sums[name] = sums.get(name, 0.) + loss
                counts[name] = counts.get(name, 0.) + count
        return {name: sums[name] / counts[name] if counts[name] else float('nan') for name in sums}

    def state_dict(self) -> dict:
        """What was added until now."""
        return {'totals': [(list(names), total.cpu()) for names, total in self._totals.items()], 'images': self._images}

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        """Goes on from what another meter had added."""
        self._totals = {tuple(names): total.to(device) for names, total in state['totals']}
        self._images = state['images']

    def _add(self, names: tuple[str, ...], step: torch.Tensor, images: int) -> None:
        self._totals[names] = self._totals[names] + step if names in self._totals else step
        self._images += images

    def _read(self, distributed: bool) -> list[tuple[tuple[str, ...], list[list[float]]]]:
        totals = {names: total.clone() for names, total in self._totals.items()}
        if distributed:
            for total in totals.values():
                dist.all_reduce(total)
        return [(names, total.tolist()) for names, total in totals.items()]


class EpochMeter(LossMeter):
    """The losses of an epoch, and in `recent` those since the last report."""

    def __init__(self):
        super().__init__()
        self.recent = LossMeter()

    def update(self, losses: dict[str, torch.Tensor], images: int) -> None:
        names, step = tuple(losses), _weighted(losses, images)
        self._add(names, step, images)
        self.recent._add(names, step, images)

    def state_dict(self) -> dict:
        return {**super().state_dict(), 'recent': self.recent.state_dict()}

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        super().load_state_dict(state, device)
        if 'recent' in state:  # not in checkpoints of earlier versions
            self.recent.load_state_dict(state['recent'], device)


def _weighted(losses: dict[str, torch.Tensor], images: int) -> torch.Tensor:
    """Sums over the images of a step [2, losses]: the losses, and how many images have a finite one."""
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    finite = values.isfinite()
    return torch.stack([values.where(finite, 0.), finite.float()]) * images
