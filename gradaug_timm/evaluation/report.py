"""Output of results: a CSV or JSON file, a table of widths, and stdout in the form that timm's tools read."""
import csv
import json
import os

from timm.task import ClassificationEvaluator, MultiLabelClassificationEvaluator

from ..cli import table
from ..files import written_aside

METRICS = tuple(
    name for evaluator in (ClassificationEvaluator, MultiLabelClassificationEvaluator)
    for name in evaluator.metric_names if name != 'loss')
HEADINGS = {'top1': 'top-1', 'top5': 'top-5'}


def write_results(path: str, results: dict | list[dict], *, format: str = 'csv') -> None:
    """Write the results of one model or of several.

    Raises:
        OSError: The file can't be written.
    """
    with written_aside(path) as partial, open(partial, mode='w', newline='', encoding='utf-8') as file:
        if format == 'json':
            json.dump(results, file, indent=4)
            return
        rows = as_rows(results)
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def print_results(results: dict | list[dict]) -> None:
    """Print a table if there are several widths, then the results as JSON below a line `--result`."""
    rows = as_rows(results)
    if len({row.get('width') for row in rows}) > 1:
        print(width_table(rows), end='\n\n')
    print(f'--result\n{json.dumps(results, indent=4)}')


def as_rows(results: dict | list[dict]) -> list[dict]:
    """Return results as a list, also those of one model."""
    return results if isinstance(results, list) else [results]


def width_table(rows: list[dict]) -> str:
    """Tabulate width, size, cost and metrics, a network per line; with several models also their names."""
    unit, scale = ('G', 1e9) if max(row['multiply_adds'] for row in rows) >= 1e9 else ('M', 1e6)
    names = [os.path.basename(row.get('checkpoint', '')) or row['model'] for row in rows]
    metrics = [name for name in METRICS if name in rows[0]]
    head = ['width', 'params (M)', f'multiply-adds ({unit})', *(HEADINGS.get(name, name) for name in metrics)]
    cells = [
        [f'{row["width"]:g}', f'{row["param_count"]:.2f}', f'{row["multiply_adds"] / scale:.3f}',
         *(f'{row[name]:.3f}' for name in metrics)]
        for row in rows
    ]
    if len(set(names)) > 1:
        head, cells = ['network', *head], [[name, *line] for name, line in zip(names, cells)]
    return '\n'.join(table([head, *cells], figures=True))
