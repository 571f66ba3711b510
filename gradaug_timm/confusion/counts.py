"""Counts of true and predicted classes, gathered on the device."""
import torch
import torch.distributed as dist


class ConfusionCounts:
    """How many images of each class were taken for each class; a batch is added without waiting for the device.

    Args:
        num_classes: The number of classes.
        device: Where the counts are kept.
    """

    def __init__(self, num_classes: int, device: torch.device):
        self.num_classes = num_classes
        self._counts = torch.zeros(num_classes ** 2 + 1, dtype=torch.int64, device=device)  # last: labels out of range

    @torch.no_grad()
    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Add a batch: outputs [N, classes] and labels [N]."""
        cells = target.long() * self.num_classes + output.argmax(1)
        known = (target >= 0) & (target < self.num_classes)
        cells = torch.where(known, cells, self.num_classes ** 2)
        self._counts.scatter_add_(0, cells, torch.ones_like(cells))

    def compute(self, *, distributed: bool = False) -> torch.Tensor:
        """Return the counts on the CPU, [true class, predicted class]; of all processes if the run is distributed."""
        counts = self._counts[:-1].clone()
        if distributed:
            dist.all_reduce(counts)
        return counts.view(self.num_classes, self.num_classes).cpu()
