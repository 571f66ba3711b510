"""The command `python -m gradaug_timm.check_data --coco`: the check of a data set in COCO's format."""
from collections import Counter
from dataclasses import dataclass, replace

from PIL import Image
from torch.utils.data import Dataset

from ..check_data.arguments import CheckSettings, check_picture
from ..check_data.main import finish
from ..check_data.report import Report
from ..check_data.split import DRAWN, Split
from ..data.findings import Finding, Level
from ..flags import SettingsParser
from ..training.arguments.parsing import parse_arguments, settings_parser
from .arguments import DetectionSettings
from .arguments import resolve as resolve_detection
from .check import CocoCheck, SplitCheck, check_coco
from .coco import Coco
from .findings import WARNED
from .images import open_image


@dataclass(frozen=True, kw_only=True)
class CheckCocoSettings(CheckSettings, DetectionSettings):
    """The settings of a data check: those of training a detector, and how data are checked."""


def build_parser() -> SettingsParser:
    """Return a new parser."""
    return settings_parser(
        CheckCocoSettings,
        resolve,
        prog='python -m gradaug_timm.check_data --coco',
        usage='%(prog)s --data-dir DIR [flags of detection.train] [--json FILE.json] [--picture FILE.png]',
        description='Check data in COCO\'s format. The flags are those of gradaug_timm.detection.train, of which those '
                    'of the data matter here. Exit status: 0, 1 if training would be wrong or would not start, 2 if a '
                    'flag or a path is wrong.',
    )


def resolve(settings: CheckCocoSettings) -> DetectionSettings:
    """Return the settings of training, resolved.

    Raises:
        ValueError: Some settings exclude each other, or a package is missing.
    """
    check_picture(settings)
    return resolve_detection(settings)


def main(argv: list[str]) -> None:
    """Check data, print the report, and write what was asked for.

    Raises:
        SystemExit: With 0; 1 if training would be wrong or would not start, or with --strict after a warning; 2 and one
            line if a flag is wrong.
    """
    parser = build_parser()
    settings, _ = parse_arguments(parser, argv)
    try:
        check = check_of(settings, decode=settings.decode, limit=settings.limit)
        crops = ObjectCrops(check.annotations[0]) if check.annotations and check.annotations[0] is not None else None
        finish(parser, report_of(check, settings.data_dir, crops), settings, None if crops is None else [crops])
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f'{parser.prog}: interrupted\n')


def check_of(settings: DetectionSettings, *, decode: bool = False, limit: int | None = None) -> CocoCheck:
    """Return the check of the data that settings describe.

    Args:
        settings: The settings.
        decode: Whether to decode all images.
        limit: Number of image files of each split that are looked at, evenly spaced; None: all.
    """
    return check_coco(
        settings.data_dir, (settings.train_split, settings.val_split), masks=settings.detector == 'mask_rcnn',
        strict=settings.strict_annotations, decode=decode, limit=limit)


def report_of(check: CocoCheck, title: str, crops: 'ObjectCrops | None' = None) -> Report:
    """Return the report of a check.

    Args:
        check: The check.
        title: What was checked.
        crops: The objects of the first split that are drawn.
    """
    findings = [Finding(Level.ERROR, 'coco', text) for text in check.errors]
    findings += [Finding(Level.WARNING, kind, text, tuple(examples)) for kind, text, examples in check.warning_details]
    findings += [
        Finding(Level.NOTE, kind, f'{split.path}: {found["count"]:,} {found["text"]}', tuple(found['examples']))
        for split in check.splits for kind, found in split.findings.items() if kind not in WARNED]
    splits = [_split_of(split) for split in check.splits]
    if crops is not None:
        splits[0] = replace(splits[0], examples=crops.examples)
    return Report(title, splits, findings, 'objects')


def _split_of(check: SplitCheck) -> Split:
    numbers = list(check.categories.values())
    sides = ((size.split('x'), times) for size, times in check.sizes.items())
    sizes = Counter({(int(width), int(height)): times for (width, height), times in sides})
    return Split(
        name=check.split,
        images=check.looked_at,
        total=check.images,
        classes=check.categories,
        sizes=sizes,
        unreadable=dict(name.partition(' (')[::2] for name in check.unreadable),
        faults=len(check.unreadable),
        turned=sum(check.findings.get(kind, {}).get('count', 0) for kind in ('turned_images', 'undecided_turns')),
        labels=Counter({label: number for label, number in enumerate(numbers) if number}),
    )


class ObjectCrops(Dataset):
    """The first objects of each category, cut out of their images, with labels from 0 on.

    Args:
        coco: The annotations.
    """

    def __init__(self, coco: Coco):
        self.class_names = tuple(coco.unique_names)
        self._coco = coco
        self._found: list[tuple[int, tuple[int, int, int, int]]] = []
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
                self._found.append((place, (int(x), int(y), int(x + w) + 1, int(y + h) + 1)))

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        place, box = self._found[index]
        label = next(label for label, indices in self.examples.items() if index in indices)
        try:
            return open_image(self._coco.images[place]).crop(box), label
        except Exception:  # image libraries raise anything on a broken file; the report names it
            return Image.new('RGB', (1, 1)), label
