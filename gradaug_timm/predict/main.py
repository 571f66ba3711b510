"""The command: predictions on stdout, in files and on a contact sheet."""
import json
import logging
import os

from timm.utils import setup_default_logging

from ..cli import one_line
from ..task.compile_limit import CompilationError
from ..threads import use_threads
from .arguments import PredictSettings, build_parser
from .run import Predictions, predict
from .sheet import write_sheet
from .table import as_json, rows_of, write_rows

_logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Run the command; SystemExit(2) with one line on stderr if it can't be carried out."""
    parser = build_parser()
    settings = parser.parse_settings(argv)
    if not logging.root.handlers:
        setup_default_logging()
    use_threads(settings.threads)
    try:
        run(settings)
    except (OSError, ValueError, CompilationError) as error:
        parser.error(one_line(error, None))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def run(settings: PredictSettings) -> None:
    """Predict, and write and print what the settings say.

    Raises:
        ValueError: What the settings name does not exist or does not fit; the message is one line.
        OSError: A file can't be written.
    """
    _make_folder(settings)
    found = predict(settings)
    rows = rows_of(found, settings)
    default = f'{os.path.basename(found.model.rstrip("/"))}-{found.image_size}'
    paths = write_rows(rows, settings, default=default)
    if not settings.no_console_results:
        print(f'--result\n{json.dumps(as_json(rows, settings.filename_col, "json"), indent=4)}')
    if settings.contact_sheet:
        surest, least = write_sheet(
            found, captions(found), settings.contact_sheet, images=settings.sheet_images)
        paths.append(f'{settings.contact_sheet} ({surest} surest, {least} least sure)')
    read = len(found.names) - len(found.problems)
    left = f', {len(found.problems)} can\'t be read and have the reason in the column error' if found.problems else ''
    _logger.info(f'{read} image{"s" * (read != 1)} predicted{left}: {", ".join(paths)}')


def _make_folder(settings: PredictSettings) -> None:
    """Create the folder of results if there is one, before anything is computed."""
    if settings.results_dir:
        folder = os.path.dirname(os.path.join(settings.results_dir, settings.results_file or ''))
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise ValueError(f'--results-dir {folder} cannot be created: {error.strerror}') from error


def captions(found: Predictions) -> list[str]:
    """Return the likeliest class of each image, and how sure the network is."""
    best = found.outputs.argmax(1) if found.indices is None else found.indices[:, 0]
    names = [str(label) if found.labels is None else found.labels[label] for label in best.tolist()]
    return [f'{sure:.3f} {name}' for name, sure in zip(names, found.sureness.tolist())]
