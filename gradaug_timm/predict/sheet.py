"""The contact sheet: the images that a network is surest and least sure of."""
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..data.class_names import innermost
from ..files import written_aside
from .images import Marked
from .run import Predictions

SIDE, MARGIN, LINE = 128, 12, 15  # pixels
COLUMNS = 6
INK, PAPER = (20, 20, 20), (255, 255, 255)


def write_sheet(found: Predictions, captions: Sequence[str], path: str, *, images: int) -> tuple[int, int]:
    """Write the picture.

    Args:
        found: The predictions.
        captions: A line for each image.
        path: The file.
        images: The largest number of images, half of them the surest.

    Returns:
        How many of the surest and of the least sure images it shows.

    Raises:
        OSError: The file can't be written.
    """
    surest, least = choose(found.sureness, {*found.problems}, images)
    innermost(found.images).transform = None
    sections = [(f'the {len(surest)} surest', surest), (f'the {len(least)} least sure', least)]
    sections = [(title, places) for title, places in sections if places]
    heights = [LINE * 2 + -(-len(places) // COLUMNS) * (SIDE + 2 * LINE + MARGIN) for _, places in sections]
    sheet = Image.new('RGB', (MARGIN + COLUMNS * (SIDE + MARGIN), sum(heights) + MARGIN), PAPER)
    top = MARGIN
    for (title, places), height in zip(sections, heights):
        _draw_section(sheet, top, title, [(_picture(found.images, place), found.names[place], captions[place])
                                          for place in places])
        top += height
    with written_aside(path) as partial:
        sheet.save(partial, format='PNG')
    return len(surest), len(least)


def choose(sureness: torch.Tensor, left_out: set[int], images: int) -> tuple[list[int], list[int]]:
    """Return the places of the surest images, the surest first, and of the least sure ones, the least sure first."""
    order = [place for place in sureness.sort(descending=True, stable=True).indices.tolist() if place not in left_out]
    half = min(-(-images // 2), -(-len(order) // 2))
    rest = order[half:]
    return order[:half], rest[::-1][:images - half]


def _picture(images: Any, place: int) -> Image.Image:
    source = images.dataset if isinstance(images, Marked) else images
    return ImageOps.pad(source[place][0].convert('RGB'), (SIDE, SIDE), color=(230, 230, 230))


def _draw_section(sheet: Image.Image, top: int, title: str, entries: Sequence[tuple[Image.Image, str, str]]) -> None:
    draw, font = ImageDraw.Draw(sheet), _font(11)
    draw.text((MARGIN, top), title, fill=INK, font=_font(14))
    for number, (picture, name, caption) in enumerate(entries):
        left = MARGIN + number % COLUMNS * (SIDE + MARGIN)
        upper = top + 2 * LINE + number // COLUMNS * (SIDE + 2 * LINE + MARGIN)
        sheet.paste(picture, (left, upper))
        for line, text in enumerate((caption, name)):
            draw.text((left, upper + SIDE + line * LINE), _shortened(draw, text, font), fill=INK, font=font)


def _font(size: int) -> Any:
    """Return matplotlib's font if there is one; Pillow's has English letters only."""
    try:
        import matplotlib
        return ImageFont.truetype(f'{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf', size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)


def _shortened(draw: ImageDraw.ImageDraw, text: str, font) -> str:
    """Return the text, or its beginning where it is wider than a picture."""
    text = ' '.join(text.encode('utf-8', 'replace').decode('utf-8').split())
    whole = text
    while text and draw.textlength(text if text == whole else f'{text}...', font=font) > SIDE:
        text = text[:-1]
    return text if text == whole else f'{text}...'
