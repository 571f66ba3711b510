"""Comparison of what was written with the checkpoint."""
import torch

from ..seeding import seeded

IMAGES = 3  # not the 2 that programs are traced with
TOLERANCE = 1e-4  # of the largest output


def fixed_batch(input_size: tuple[int, int, int], images: int = IMAGES) -> torch.Tensor:
    """Return a batch of normalised noise, [images, *input_size], always the same."""
    return torch.randn(images, *input_size, generator=seeded(0))


def compare(outputs: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference of two networks' outputs, relative to the largest output.

    Raises:
        ValueError: The difference is too large to be rounding.
    """
    if outputs.shape != expected.shape:
        raise ValueError(f'its outputs have shape {tuple(outputs.shape)}, not {tuple(expected.shape)}')
    if not expected.isfinite().all():
        raise ValueError('the checkpoint\'s outputs are not finite')
    difference = ((outputs - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
    if not difference <= TOLERANCE:
        raise ValueError(f'its outputs differ from the checkpoint\'s by {difference:.1e} of the largest, more than '
                         f'{TOLERANCE:.0e}')
    return difference
