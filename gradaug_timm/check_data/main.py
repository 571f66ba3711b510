"""The command `python -m gradaug_timm.check_data`."""
import sys
import warnings
from typing import NoReturn

from PIL import Image
from torch.utils.data import Dataset

from ..cli import StrictParser
from ..training.arguments.parsing import parse_arguments
from .arguments import CheckSettings, build_parser
from .collect import check_training_data
from .report import Report

COCO = '--coco'  # checks data in COCO's format, with the flags of detection


def main(argv: list[str] | None = None) -> None:
    """Check data, print the report, and write what was asked for.

    Raises:
        SystemExit: With 0; 1 if training would be wrong or would not start, or with --strict after a warning; 2 and one
            line if a flag or a path is wrong.
    """
    argv = sys.argv[1:] if argv is None else argv
    if COCO in argv:
        from ..detection.check_data import main as check_detection
        return check_detection([each for each in argv if each != COCO])
    parser = build_parser()
    settings, _ = parse_arguments(parser, argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            warnings.filterwarnings('ignore', module='PIL')
            report, datasets = check_training_data(settings, decode=settings.decode, limit=settings.limit)
        finish(parser, report, settings, datasets)
    except (OSError, ValueError) as error:
        from ..detection.reading import splits_in
        hint = settings.data_dir and splits_in(settings.data_dir) and f'; for data in COCO\'s format add {COCO}'
        parser.error(f'{error}{hint or ""}')
    except KeyboardInterrupt:
        parser.exit(130, f'{parser.prog}: interrupted\n')


def finish(
        parser: StrictParser,
        report: Report,
        settings: CheckSettings,
        datasets: list[Dataset] | None = None,
) -> NoReturn:
    """Print and write a report, draw the picture, and end the program with the report's status.

    Args:
        parser: The parser of the command.
        report: The report.
        settings: What is written.
        datasets: The data set of each split, of images and labels, for samples in the picture; None: no samples.
    """
    print('\n'.join(report.lines()))
    if settings.results_file:
        report.write(settings.results_file)
    if settings.picture:
        from .picture import draw
        draw(report, settings.picture, datasets[0] if datasets else None)
    parser.exit(report.exit_status(strict=settings.strict))
