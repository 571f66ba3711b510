"""Hand-written output folders of runs, and calls of the report on them."""
import csv
import json
from pathlib import Path

import pytest
import yaml

from gradaug_timm.report.main import main

FLAGS = dict(model='resnet20_cifar', epochs=3, lr=0.1, data_dir='data')


def write_run(folder: Path, top1: list[float], *, seed: int = 1, columns: dict | None = None, **flags) -> Path:
    """A folder with args.yaml and a row of summary.csv for each value, as runs before run.json left them."""
    folder.mkdir(parents=True)
    (folder / 'args.yaml').write_text(yaml.safe_dump({**FLAGS, 'seed': seed, **flags}))
    table = {'epoch': range(len(top1)), 'eval_top1': top1, **(columns or {})}
    with (folder / 'summary.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values()))
    return folder


def record_text(*first_epochs: int, **facts) -> str:
    """A run.json with a session for each of `first_epochs`."""
    place = dict(device='CPU', world_size=1, versions={'torch': '2.6'})
    record = dict(epochs=3, parameters=1, multiply_adds=1, passes=1, relative_cost=1.)
    sessions = [{**place, 'first_epoch': epoch} for epoch in first_epochs]
    return json.dumps({**record, 'sessions': sessions, **facts})


def report(tmp_path: Path, *runs, **flags) -> list[dict[str, str]]:
    """The rows of the Markdown table by its headings, after a run that must succeed."""
    output = tmp_path / 'made'
    argv = [*map(str, runs), '--output', str(output)]
    for name, value in flags.items():
        argv += [f'--{name}', *([value] if isinstance(value, str) else value)]
    main(argv)
    return read_markdown(output / f'{flags.get("name", "report")}.md')


def read_markdown(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith('|')]
    head, _, *rows = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def names(rows: list[dict[str, str]]) -> list[str]:
    """The methods of a table, in order."""
    return [row['method'] for row in rows]


def read_figures(path: Path) -> list[dict[str, str]]:
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def error_line(capsys, *argv) -> str:
    """The one line with which the report refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, argv)])
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1
    return lines[0]
