"""What the header of an image says, and whether the file is complete, mostly without decoding."""
import hashlib
import io
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image

from ..cli import one_line
from ..data.images import in_mode

PART = 2 ** 15  # bytes at the start and at the end of a large file that are read
ORIENTATION = 0x0112  # EXIF tag; values above 1 are rotations and reflections
WIDE = ('I', 'F')  # beginnings of modes of 16 and 32 bits, which are scaled to 8 bits or cannot be
START_OF_SCAN, END_OF_IMAGE = 0xDA, b'\xff\xd9'


@dataclass(frozen=True)
class ImageFacts:
    """The facts of one image.

    Args:
        size: Width and height in pixels.
        mode: Mode of PIL, such as 'RGB'.
        format: Format of the file, such as 'JPEG'; '' for pixels.
        digest: Digest of the content; of large files only of their length, start and end.
        whole: Whether the digest is one of the whole content.
        turned: Whether the EXIF data say that the image must be rotated or reflected.
        peak: The highest value of a grey image of 16 bits as training reads it, with 8 bits; None for others.
        problem: Why the image cannot be read; '' if it can.
    """

    size: tuple[int, int] = (0, 0)
    mode: str = ''
    format: str = ''
    digest: bytes = b''
    whole: bool = True
    turned: bool = False
    peak: int | None = None
    problem: str = ''


def image_facts(content: IO[bytes] | Image.Image, *, decode: bool = False) -> ImageFacts:
    """Return the facts of a file, or of an image that the data set holds as pixels.

    Args:
        content: The opened file or the image.
        decode: Whether to decode all files. Otherwise only files are decoded that seem incomplete, or whose format does
            not show where a file ends.
    """
    if isinstance(content, Image.Image):
        content.load()
        pixels = repr((content.mode, content.size)).encode() + content.tobytes()
        return ImageFacts(content.size, content.mode, '', _digest(pixels))
    start, end, length = _ends(content)
    if not length:
        return ImageFacts(problem='the file is empty')
    whole = length == len(start)
    digest = _digest(b'%d ' % length + start + (b'' if whole else end))
    source = io.BytesIO(start) if whole else content
    try:
        source.seek(0)
        with Image.open(source) as image:
            kind = image.format or ''
            size, mode, turned, peak = image.size, image.mode, _is_turned(image), None
            if mode.startswith(WIDE):
                peak = int(np.asarray(in_mode(image, 'L')).max())
            elif decode or not is_complete(kind, start, end, length):
                in_mode(image, 'RGB')
    except Exception as error:  # Pillow raises anything on a broken file
        return ImageFacts(digest=digest, whole=whole, problem=_reason(error))
    return ImageFacts(size, mode, kind, digest, whole, turned, peak)


def full_digest(path: str) -> bytes:
    """Return the digest of a whole file."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'blake2b').digest()


def is_complete(kind: str, start: bytes, end: bytes, length: int) -> bool:
    """Return whether a file surely reaches its end; False also if its format does not show it.

    Args:
        kind: Format by Pillow's name.
        start: First bytes, or the whole file.
        end: Last bytes, or the whole file.
        length: Length of the file.
    """
    if kind in ('JPEG', 'MPO'):
        scan = _start_of_scan(start)
        if scan is None and length == len(start):
            return False
        return end.rfind(END_OF_IMAGE) > (scan or 0) - (length - len(end))
    if kind == 'PNG':
        return end.endswith(b'IEND\xaeB`\x82')
    if kind == 'GIF':
        return end.endswith(b';')
    if kind == 'WEBP':
        return int.from_bytes(start[4:8], 'little') + 8 <= length
    if kind == 'BMP':
        return 0 < int.from_bytes(start[2:6], 'little') <= length
    return False


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _ends(file: IO[bytes]) -> tuple[bytes, bytes, int]:
    """Return start, end and length of a file; a small file is its own start and end."""
    file.seek(0)
    start = file.read(2 * PART)
    length = file.seek(0, io.SEEK_END)
    if length <= len(start):
        return start, start, length
    file.seek(length - PART)
    return start[:PART], file.read(PART), length


def _start_of_scan(data: bytes) -> int | None:
    """Return where the pixels of a JPEG file begin, after previews in its EXIF data; None if that is not in `data`."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        if data[place + 1] == START_OF_SCAN:
            return place
        if data[place + 1] == 0xFF:  # fill byte
            place += 1
        else:
            place += 2 + int.from_bytes(data[place + 2:place + 4], 'big')
    return None


def _is_turned(image: Any) -> bool:
    try:
        return 'exif' in image.info and image.getexif().get(ORIENTATION, 1) not in (0, 1)
    except Exception:  # broken EXIF data do not prevent reading
        return False


def _reason(error: Exception) -> str:
    text = one_line(error, 120, kind=True)
    return 'no image that Pillow can read' if 'cannot identify' in text else text
