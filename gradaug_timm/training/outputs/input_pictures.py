"""A labelled picture of the inputs of all networks in a training step."""
import torch
from PIL import Image, ImageDraw, ImageFont
from timm.task import TrainingTask

from ...task.sampling import Draw, images_seen
from ...task.steps import SubnetSteps
from ...task.transforms import apply_transform

SHOWN = 8  # images of a batch
SMALLEST = 64  # pixels of an image in the picture; smaller ones are enlarged by a whole factor
GAP, FONT, TITLE = 4, 12, 20  # pixels
INK, PAPER = 'white', (40, 40, 40)


def network_inputs(task: TrainingTask, images: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Return titles and inputs [N, C, H, W] of the last step: of the full network and of each sub-network."""
    inputs = [(f'full network, {_pixels(images)}', images)]
    if isinstance(task, SubnetSteps):
        seen = images[:images_seen(len(images), task.settings.batch_fraction)]
        for index, draw in enumerate(task.draws(task.step - 1)):
            view = apply_transform(seen, draw.transform)
            inputs.append((f'sub-network {index}: {_describe(draw)}, {_pixels(view)}', view))
    return inputs


def _pixels(images: torch.Tensor) -> str:
    height, width = images.shape[-2:]
    return f'{width}x{height} px'


def _describe(draw: Draw) -> str:
    parts = [f'width {draw.subnet.width:.4g}']
    if draw.subnet.skipped:
        parts.append(f'{len(draw.subnet.skipped)} blocks skipped')
    parts.append(draw.transform.describe())
    return ', '.join(parts)


def draw_inputs(
        inputs: list[tuple[str, torch.Tensor]],
        mean: tuple[float, ...],
        std: tuple[float, ...],
) -> Image.Image:
    """Draw a row for each network: the title, and below it the first images of the input.

    Args:
        inputs: Titles and normalised batches [N, C, H, W].
        mean: Mean of each channel with which the images were normalised.
        std: Standard deviation of each channel with which the images were normalised.
    """
    rows = [(title, _as_bytes(batch[:SHOWN], mean, std)) for title, batch in inputs]
    height, width = (max(batch.shape[axis] for _, batch in rows) for axis in (1, 2))
    factor = max(1, SMALLEST // max(height, width))
    height, width = factor * height + GAP, factor * width + GAP
    font = ImageFont.load_default(FONT)
    longest = max(int(font.getlength(title)) for title, _ in rows)
    columns = max(len(batch) for _, batch in rows)
    size = max(columns * width, longest + GAP) + GAP, len(rows) * (TITLE + height) + GAP
    picture = Image.new('RGB', size, PAPER)
    pen = ImageDraw.Draw(picture)
    for row, (title, batch) in enumerate(rows):
        top = GAP + row * (TITLE + height)
        pen.text((GAP, top), title, fill=INK, font=font)
        for column, pixels in enumerate(batch.repeat_interleave(factor, 1).repeat_interleave(factor, 2)):
            picture.paste(Image.fromarray(pixels.numpy()), (GAP + column * width, top + TITLE))
    return picture


def _as_bytes(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Return the images without normalisation: uint8 [N, H, W, 3] on the CPU."""
    shown = images.detach().float().cpu()
    shown = shown * torch.tensor(std).view(1, -1, 1, 1) + torch.tensor(mean).view(1, -1, 1, 1)
    shown = shown[:, :3] if shown.shape[1] >= 3 else shown[:, :1].expand(-1, 3, -1, -1)
    return (shown.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
