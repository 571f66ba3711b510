"""Decoding of image files: at their depth, in the mode that the network needs."""
from typing import IO

import numpy as np
from PIL import Image

DEPTH_16 = 257  # 65535 / 255
SIXTEEN_BITS = ('PNG', 'PPM')  # formats whose mode I holds 16 bits, scaled to 0 to 65535


class UnreadableImageError(ValueError):
    """The error that an image cannot be decoded, or not without losing its values."""


def read_image(file: str | IO[bytes], mode: str) -> Image.Image:
    """Return the image in a file in a mode of PIL; '' keeps the mode.

    Raises:
        Exception: The file is damaged; image libraries raise anything then.
    """
    with Image.open(file) as image:
        image.load()
        return in_mode(image, mode)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return an image in a mode of PIL; '' keeps the mode.

    Grey images of 16 bits are scaled from 0..65535 to 0..255, where PIL's `convert` would clip them at 255.

    Raises:
        UnreadableImageError: The image has pixels of 32 bits, of unknown range.
    """
    if image.mode.startswith('I;16') or (image.mode == 'I' and image.format in SIXTEEN_BITS):
        image = _eight_bits(image)
    elif image.mode in ('I', 'F') and mode != image.mode:
        raise UnreadableImageError(
            f'its pixels have 32 bits (mode {image.mode}) of unknown range; convert it to 8 or 16 bits')
    return image.convert(mode) if mode else image


def _eight_bits(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((pixels + DEPTH_16 // 2) // DEPTH_16).astype(np.uint8))
