"""Predictions as rows, and as files: CSV, JSON and parquet."""
import csv
import json
import os
from typing import Any

from ..files import replacing, written_aside
from .arguments import FORMATS, PredictSettings
from .run import Predictions

ERROR = 'error'  # column of what could not be read, if there is any


def rows_of(found: Predictions, args: PredictSettings) -> list[dict[str, Any]]:
    """Return a row for each image: its name, then numbers, names and outputs of classes; None for unreadable images."""
    output_col = args.output_col or args.output_type
    rows = []
    for place, name in enumerate(found.names):
        columns: dict[str, list] = {}
        indices = None if found.indices is None else found.indices[place].tolist()
        if indices is not None and args.include_index:
            columns[args.index_col] = indices
        if indices is not None and found.labels is not None:
            columns[args.label_col] = [found.labels[index] for index in indices]
        if not args.exclude_output:
            columns[output_col] = [float(f'{value:.6g}') for value in found.outputs[place].tolist()]
        row: dict[str, Any] = {args.filename_col: name}
        for column, values in columns.items():
            row |= _cells(column, [None] * len(values) if place in found.problems else values,
                          apart=args.results_separate_col)
        if found.problems:
            row[ERROR] = found.problems.get(place)
        rows.append(row)
    return rows


def write_rows(rows: list[dict[str, Any]], args: PredictSettings, *, default: str) -> list[str]:
    """Write the files of results.

    Args:
        rows: The rows.
        args: The settings of the files.
        default: Name of the file without ending if none is given.

    Returns:
        The paths.

    Raises:
        OSError: A file can't be written.
    """
    base, ending = os.path.splitext(args.results_file or default)
    base = base if args.results_file and ending in FORMATS.values() else base + ending
    paths = [os.path.join(args.results_dir or '', base + FORMATS[form]) for form in args.results_format]
    for path, form in zip(paths, args.results_format):
        if form == 'parquet':
            _write_parquet(rows, path)
            continue
        with replacing(path, newline='' if form == 'csv' else None) as file:
            if form == 'csv':
                _write_csv(rows, file)
            else:
                json.dump(as_json(rows, args.filename_col, form), file, indent=2)
    return paths


def as_json(rows: list[dict[str, Any]], key: str, form: str) -> Any:
    """Return rows by file name ('json'), as a list ('json-record'), or as columns and lists ('json-split')."""
    if form == 'json-record':
        return rows
    if form == 'json-split':
        return {'columns': [*rows[0]], 'data': [[*row.values()] for row in rows]}
    return {row[key]: {name: value for name, value in row.items() if name != key} for row in rows}


def _cells(column: str, values: list, *, apart: bool) -> dict[str, Any]:
    if len(values) == 1:
        return {column: values[0]}
    return {f'{column}_{place}': value for place, value in enumerate(values)} if apart else {
        column: None if values[0] is None else values}


def _write_csv(rows: list[dict[str, Any]], file) -> None:
    writer = csv.DictWriter(file, fieldnames=[*rows[0]])
    writer.writeheader()
    for row in rows:
        writer.writerow({name: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
                         for name, value in row.items()})


def _write_parquet(rows: list[dict[str, Any]], path: str) -> None:
    import pyarrow
    from pyarrow import parquet
    with written_aside(path) as partial:
        parquet.write_table(pyarrow.Table.from_pylist(rows), partial)
