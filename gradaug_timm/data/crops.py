"""Random crops and flips of many images at once."""
import random
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Draws:
    """For each image the upper left corner of its crop, and by dimension whether it is flipped along it."""

    top: torch.Tensor
    left: torch.Tensor
    flipped: dict[int, torch.Tensor]


def draw_epoch(
        images: int,
        padding: int,
        flips: dict[int, float],
        *,
        seed: int,
        epoch: int,
        device: torch.device,
) -> Draws:
    """What happens to each image of a data set in an epoch, from (seed, epoch, image) alone.

    It is drawn on the CPU, so that it is the same on every device.

    Args:
        images: Number of images.
        padding: Pixels on each side of an image; the corner lies anywhere from 0 to twice as many.
        flips: Dimension to probability of a flip.
        seed: Seed of the run.
        epoch: Number of the epoch.
        device: Where the draws go.
    """
    generator = torch.Generator().manual_seed(random.Random(f'crops/{seed}/{epoch}').getrandbits(63))
    top, left = torch.randint(2 * padding + 1, (2, images), generator=generator).to(device)
    flipped = {
        dim: (torch.rand(images, generator=generator) < probability).to(device) for dim, probability in flips.items()}
    return Draws(top, left, flipped)


def crop_and_flip(images: torch.Tensor, index: torch.Tensor, size: tuple[int, int], draws: Draws) -> torch.Tensor:
    """The crops of some images, flipped where drawn so; a view of all possible crops is indexed, without loop or wait.

    Args:
        images: Padded images [N, C, H, W].
        index: Which of them.
        size: Height and width of the crops.
        draws: What was drawn for all of them.
    """
    windows = images.unfold(2, size[0], 1).unfold(3, size[1], 1)
    crops = windows[index, :, draws.top[index], draws.left[index]]
    for dim, flipped in draws.flipped.items():
        crops = torch.where(flipped[index].view(-1, 1, 1, 1), crops.flip(dim), crops)
    return crops
