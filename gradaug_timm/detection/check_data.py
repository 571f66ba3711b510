"""The command `python -m gradaug_timm.check_data --coco`: the check of a data set in COCO's format."""
from dataclasses import dataclass

from PIL import Image
from torch.utils.data import Dataset

from ..check_data.arguments import CheckSettings, check_parser
from ..check_data.main import finish
from ..check_data.report import Report
from ..check_data.split import DRAWN
from ..flags import SettingsParser
from ..training.arguments.parsing import parse_arguments
from .arguments import DetectionSettings, resolve
from .check import check_coco
from .coco import Coco
from .images import open_image


@dataclass(frozen=True, kw_only=True)
class CheckCocoSettings(CheckSettings, DetectionSettings):
    """The settings of a data check: those of training a detector, and how data are checked."""


def build_parser() -> SettingsParser:
    """Return a new parser."""
    return check_parser(
        CheckCocoSettings,
        resolve,
        prog='python -m gradaug_timm.check_data --coco',
        usage='%(prog)s [DIR] [-c FILE...] [flags of detection.train] [--json FILE.json] [--picture FILE.png]',
        description='Check data in COCO\'s format. The flags are those of gradaug_timm.detection.train, of which those '
                    'of the data matter here.',
    )


def main(argv: list[str]) -> None:
    """Check data, print the report, and write what was asked for.

    Raises:
        SystemExit: With 0; 1 if training would be wrong or would not start, or with --strict after a warning; 2 and one
            line if a flag is wrong.
    """
    parser = build_parser()
    settings, _ = parse_arguments(parser, argv)
    try:
        report, (train, *_) = check_of(settings, decode=settings.decode, limit=settings.limit)
        crops = ObjectCrops(train) if settings.picture and train is not None else None
        if crops is not None:
            report.splits[0].examples = crops.examples
        finish(parser, report, settings, None if crops is None else [crops])
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f'{parser.prog}: interrupted\n')


def check_of(
        settings: DetectionSettings,
        *,
        decode: bool = False,
        limit: int | None = None,
) -> tuple[Report, list[Coco | None]]:
    """Check the data that settings describe, and return what `check_coco` does.

    Args:
        settings: The settings.
        decode: Whether to decode all images.
        limit: Number of image files of each split that are looked at, evenly spaced; None: all.
    """
    return check_coco(
        settings.data_dir, (settings.train_split, settings.val_split), masks=settings.detector == 'mask_rcnn',
        strict=settings.strict_annotations, decode=decode, limit=limit)


class ObjectCrops(Dataset):
    """The first objects of each category, cut out of their images, with labels from 0 on.

    Args:
        coco: The annotations.
    """

    def __init__(self, coco: Coco):
        self.class_names = tuple(coco.unique_names)
        self._coco = coco
        self._found: list[tuple[int, int, tuple[int, int, int, int]]] = []
        self.examples: dict[int, list[int]] = {}
        for place in range(len(coco.images)):
            if coco.images[place].usable and coco.images[place].path:
                self._add(place)

    def _add(self, place: int) -> None:
        for each in self._coco.trained(place):
            indices = self.examples.setdefault(each.label - 1, [])
            if len(indices) < DRAWN:
                x, y, w, h = each.box
                indices.append(len(self._found))
                self._found.append((place, each.label - 1, (int(x), int(y), int(x + w) + 1, int(y + h) + 1)))

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        place, label, box = self._found[index]
        try:
            return open_image(self._coco.images[place]).crop(box), label
        except Exception:  # image libraries raise anything on a broken file; the report names it
            return Image.new('RGB', (1, 1)), label
