"""Means of losses that are summed on the device and read only on demand."""
import torch
import torch.distributed as dist


class LossMeter:
    """Means of named losses over images; steps with a loss that is not finite are skipped for that loss.

    Nothing is read from the device before `compute`, so that a step never waits for it.
    """

    def __init__(self):
        self._totals: dict[tuple[str, ...], torch.Tensor] = {}
        self._images = 0

    @property
    def images(self) -> int:
        """The number of images so far."""
        return self._images

    def update(self, losses: dict[str, torch.Tensor], images: int) -> None:
        """Add the losses of one step; steps may have different losses."""
        self._add(tuple(losses), _weighted(losses, images), images)

    def compute(self, *, distributed: bool = False) -> dict[str, float]:
        """Return the mean of each loss; NaN if it was finite in no step."""
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for names, total in self._read(distributed):
            for name, loss, count in zip(names, *total):
                sums[name] = sums.get(name, 0.) + loss
                counts[name] = counts.get(name, 0.) + count
        return {name: sums[name] / counts[name] if counts[name] else float('nan') for name in sums}

    def state_dict(self) -> dict:
        """Return the sums so far."""
        return {'totals': [(list(names), total.cpu()) for names, total in self._totals.items()], 'images': self._images}

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        """Restore the sums of another meter."""
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
    """The mean losses of an epoch, and in `recent` the losses since the last report."""

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
        if 'recent' in state:  # missing in checkpoints of older versions
            self.recent.load_state_dict(state['recent'], device)


def _weighted(losses: dict[str, torch.Tensor], images: int) -> torch.Tensor:
    """Return sums over the images of a step [2, losses]: the losses, and the number of images with a finite loss."""
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    finite = values.isfinite()
    return torch.stack([values.where(finite, 0.), finite.float()]) * images
