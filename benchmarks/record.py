"""Output of a benchmark: a table for people and a line of JSON for programs."""
import argparse
import json
import platform
import subprocess
from datetime import date
from pathlib import Path

import timm
import torch


def report(name: str, args: argparse.Namespace, rows: list[dict]) -> None:
    """Print `rows` as a table and, with versions and hardware, as a line of JSON that is also appended to `--json`.

    Args:
        name: Name of the benchmark.
        args: Flags of the benchmark.
        rows: Figures by column; all rows have the same columns.
    """
    settings = {key: value for key, value in vars(args).items() if key != 'json'}
    print(f'{name}: {", ".join(f"{key} {value}" for key, value in settings.items())}')
    print(_table(rows))
    line = json.dumps({'benchmark': name, **settings, 'rows': rows, **where()})
    print(line, flush=True)
    if args.json:
        with open(args.json, 'a') as file:
            file.write(line + '\n')


def where() -> dict:
    """Return versions and hardware."""
    commit = subprocess.run(
        ['git', 'rev-parse', '--short', 'HEAD'], cwd=Path(__file__).parent, capture_output=True, text=True)
    return {
        'date': date.today().isoformat(), 'commit': commit.stdout.strip(), 'python': platform.python_version(),
        'torch': torch.__version__, 'timm': timm.__version__, 'threads': torch.get_num_threads(), 'cpu': _cpu(),
        **({'gpu': torch.cuda.get_device_name(), 'cuda': torch.version.cuda} if torch.cuda.is_available() else {}),
    }


def _cpu() -> str:
    info = Path('/proc/cpuinfo')
    names = [line for line in info.read_text().splitlines() if line.startswith('model name')] if info.exists() else []
    return names[0].partition(':')[2].strip() if names else platform.processor()


def _table(rows: list[dict]) -> str:
    cells = [list(rows[0]), *([_show(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ['  '.join(cell.rjust(width) if index else cell.ljust(width)
                       for index, (cell, width) in enumerate(zip(row, widths))) for row in cells]
    return '\n'.join(lines)


def _show(value) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
