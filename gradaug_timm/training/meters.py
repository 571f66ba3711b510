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
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        finite = values.isfinite()
        step = torch.stack([values.where(finite, 0.), finite.float()]) * images
        names = tuple(losses)
        self._totals[names] = self._totals[names] + step if names in self._totals else step
        self._images += images

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

    def _read(self, distributed: bool) -> list[tuple[tuple[str, ...], list[list[float]]]]:
        totals = {names: total.clone() for names, total in self._totals.items()}
        if distributed:
            for total in totals.values():
                dist.all_reduce(total)
        return [(names, total.tolist()) for names, total in totals.items()]
