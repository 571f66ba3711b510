"""Random crops and flips of many images at once."""
from dataclasses import dataclass

import torch

from ..seeding import random_of, seeded


@dataclass(frozen=True)
class Draws:
    """Draws for all images: the upper left corner of each crop, and for each dimension whether it is flipped."""

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
    """Return the crops and flips of all images of a data set in an epoch, which follow from (seed, epoch, image).

    They are drawn on the CPU, so that they are the same on every device.

    Args:
        images: Number of images.
        padding: Pixels on each side of an image; a corner is drawn from 0 to twice this number.
        flips: Dimension -> probability of a flip.
        seed: Seed of the run.
        epoch: Number of the epoch.
        device: Device to which the draws are moved.
    """
    # Not seeding.generator: its seed for this key would differ, and runs must keep their draws.
    generator = seeded(random_of('crops', seed, epoch).getrandbits(63))
    top, left = torch.randint(2 * padding + 1, (2, images), generator=generator).to(device)
    flipped = {
        dim: (torch.rand(images, generator=generator) < probability).to(device) for dim, probability in flips.items()}
    return Draws(top, left, flipped)


def crop_and_flip(images: torch.Tensor, index: torch.Tensor, size: tuple[int, int], draws: Draws) -> torch.Tensor:
    """Return the crops of some images, flipped as drawn; it indexes a view of all crops, with no loop and no wait.

    Args:
        images: Padded images [N, C, H, W].
        index: Indices of the images.
        size: Height and width of the crops.
        draws: The draws for all images.
    """
    windows = images.unfold(2, size[0], 1).unfold(3, size[1], 1)
    crops = windows[index, :, draws.top[index], draws.left[index]]
    for dim, flipped in draws.flipped.items():
        crops = torch.where(flipped[index].view(-1, 1, 1, 1), crops.flip(dim), crops)
    return crops
