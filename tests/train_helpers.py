"""Runs of train.py inside the test process, on tiny folders of images."""
import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
from PIL import Image
from timm.task import TrainingTask
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from gradaug_timm import files
from gradaug_timm.training import summary as results
from gradaug_timm.training.main import main


def make_image_folder(root: Path, *, images: int = 4, splits=('train', 'validation'), classes: str = 'ab') -> Path:
    """A class for each letter, images of 16 pixels."""
    for split in splits:
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(images):
                Image.new('RGB', (16, 16), (ord(name), 30, 30)).save(folder / f'{index}.png')
    return root


def arguments(data: Path, output: Path, **flags) -> list[str]:
    """A command line; `True` gives a switch, `None` leaves a flag out."""
    defaults = dict(
        data_dir=data, num_classes=2, device='cpu', workers=0, batch_size=8, img_size=16, model='resnet20_cifar',
        model_kwargs='depth=8', lr=0.01, warmup_epochs=0, no_aug=True, output=output, epochs=1)
    argv = []
    for name, value in {**defaults, **flags}.items():
        flag = f'--{name.replace("_", "-")}'
        if value is True:
            argv.append(flag)
        elif isinstance(value, (list, tuple)):
            argv += [flag, *map(str, value)]
        elif value is not None and value is not False:
            argv += [flag, str(value)]
    return argv


def train(data: Path, output: Path, *, picture: bool = False, **flags) -> Path:
    """Runs train.py; returns the folder of `experiment`.

    It draws its curves only where they are asked for, and doesn't wait until files are on the disk.
    """
    flags = {'experiment': 'run', **flags}
    drawn = nullcontext() if picture else patch.object(results, 'plot_curves', return_value=None)
    with drawn, patch.object(files, 'flush'):
        main(arguments(data, output, **flags))
    return output / flags['experiment']


@contextmanager
def at_batch(number: int | None, act: Callable) -> Iterator[list]:
    """Calls `act(images, target)` before the task sees a batch; gives the list of those it was to see.

    Args:
        number: Of the batch among those of this process, from 1; None for every batch.
        act: Does something, raises, or returns nothing.
    """
    seen = []

    def hook(module, batch):
        if isinstance(module, TrainingTask):
            seen.append(batch)
            if number in (None, len(seen)):
                act(*batch)
    handle = register_module_forward_pre_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def after_batch(number: int | None, change: Callable[[dict], dict]) -> Iterator[None]:
    """Gives the loop `change(result)` for what the task returned for batch `number`, counted as for `at_batch`."""
    done = []

    def hook(module, _, result):
        if not isinstance(module, TrainingTask):
            return result
        done.append(1)
        return change(result) if number in (None, len(done)) else result
    handle = register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def out_of_memory(*_) -> None:
    """Ends a run as a kill does: nothing of ours catches it."""
    raise MemoryError


def read_summary(folder: Path) -> list[dict[str, str]]:
    """The rows of summary.csv."""
    with (folder / 'summary.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def read_log(folder: Path) -> list[dict]:
    """The lines of log.jsonl."""
    return [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]


def error_line(capsys, argv: list[str]) -> str:
    """The one line with which train.py refuses `argv`."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(argv)
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if line.startswith('train.py: error:')]
    assert ended.value.code == 2
    assert len(lines) == 1
    return lines[0]
