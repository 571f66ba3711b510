"""The summary that a run prints at the end."""
import json
import os

from ..confusion.files import in_folder
from .outputs.curves import PictureError, plot_curves
from .outputs.folder import RunFolder, read_rows
from .run import Run

SHOWN = 10  # epochs in the JSON, as in timm


def print_results(run: Run, folder: RunFolder, results: list[dict]) -> None:
    """Print the best epochs as JSON after timm's marker `--result`, then a readable summary."""
    ranked = sorted(
        results,
        key=lambda result: result.get('validation', result['train'])[run.metric],
        reverse=run.lower_is_better,
    )
    print(f'--result\n{json.dumps(ranked[-SHOWN:], indent=4)}')
    print('\n'.join(summary_lines(run, folder)))


def summary_lines(run: Run, folder: RunFolder) -> list[str]:
    """Return lines with the final and best metric of the whole run, and the paths of its files."""
    name, column = run.metric, _column(run)
    rows = [row for row in read_rows(folder.summary) if row.get(column)]
    lines = []
    if rows:
        best = (min if run.lower_is_better else max)(rows, key=lambda row: float(row[column]))
        lines = [
            f'Final {name}  {float(rows[-1][column]):.2f} (epoch {rows[-1]["epoch"]})',
            f'Best {name}   {float(best[column]):.2f} (epoch {best["epoch"]})',
        ]
    lines += [f'Checkpoint  {path}' for path in [_best_checkpoint(folder)] if path]
    try:
        lines.append(f'Picture     {plot_curves(folder, run.metric)}')
    except PictureError as error:
        lines.append(f'Picture     none: {error}')
    matrix = in_folder(getattr(run.args, 'confusion_matrix', None) or '', folder.path)
    lines += [f'Confusion   {matrix}'] if os.path.isfile(matrix) else []
    return [*lines, f'Table       {folder.summary}']


def _column(run: Run) -> str:
    return f'{"train" if run.loaders.validation is None else "eval"}_{run.metric}'


def _best_checkpoint(folder: RunFolder) -> str | None:
    candidates = (os.path.join(folder.path, 'model_best.pth.tar'), folder.last)
    return next((path for path in candidates if os.path.exists(path)), None)
