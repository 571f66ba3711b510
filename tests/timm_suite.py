"""A run of timm's own model tests on our models, in a separate process.

The tests come from the source distribution of the installed timm, which is downloaded once into a cache (`.cache/` of
the project, or the folder in TIMM_SUITE_FOLDER) and is never part of this repository. train.py comes from GitHub.
"""
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen
from xml.etree import ElementTree

import pytest
from filelock import FileLock

TESTS = Path(__file__).parent
REPOSITORY = 'https://raw.githubusercontent.com/huggingface/pytorch-image-models'


@dataclass(frozen=True)
class Outcome:
    """How many of timm's tests passed, which were skipped, which failed, and what pytest printed."""
    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[str, ...]
    code: int
    output: str


class MissingError(Exception):
    """What timm publishes can't be had here."""


def suite_folder() -> Path:
    """The unpacked source distribution of the installed timm; skips the test where it can't be had."""
    return _or_skip(_suite_folder)


def train_script() -> Path:
    """timm's own train.py of the installed version; skips the test where it can't be had.

    TIMM_TRAIN_SCRIPT may name it. timm's distributions don't hold it, so that it comes from the tag on GitHub.
    """
    named = os.environ.get('TIMM_TRAIN_SCRIPT')
    return Path(named) if named else _or_skip(_train_script)


def _cache() -> Path:
    return Path(os.environ.get('TIMM_SUITE_FOLDER', TESTS.parent / '.cache' / 'timm_suite'))


def _or_skip(find: Callable[[], Path | MissingError]) -> Path:
    found = find()
    if isinstance(found, MissingError):
        pytest.skip(str(found))
    return found


def _remembering(find: Callable[[], Path]) -> Callable[[], Path | MissingError]:
    """Looks once: what can't be had is not asked for again."""
    @cache
    def remembered() -> Path | MissingError:
        try:
            return find()
        except MissingError as error:
            return error
    return remembered


@_remembering
def _suite_folder() -> Path:
    unpacked = _cache() / f'timm-{version("timm")}'
    if not (unpacked / 'tests' / 'test_models.py').exists():
        with _filling(unpacked.parent) as folder, tarfile.open(_download(folder)) as tar:
            tar.extractall(folder, filter='data')
    return unpacked


@_remembering
def _train_script() -> Path:
    path, url = _cache() / f'timm-{version("timm")}-train.py', f'{REPOSITORY}/v{version("timm")}/train.py'
    if not path.exists():
        with _filling(path.parent):
            try:
                with urlopen(url, timeout=30) as answer:
                    content = answer.read()
            except OSError as error:
                raise MissingError(
                    f'{url} can\'t be downloaded ({error}), and TIMM_TRAIN_SCRIPT names no copy') from error
            path.write_bytes(content)
    return path


@contextmanager
def _filling(folder: Path) -> Iterator[Path]:
    """The folder of what is downloaded, which one process at a time fills."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # such as a link to a folder that isn't there any more
        raise MissingError(
            f'{folder}, where timm\'s tests would be kept, can\'t be made ({error}); TIMM_SUITE_FOLDER names another'
        ) from error
    with FileLock(folder / '.lock'):
        yield folder


def _download(folder: Path) -> Path:
    requirement = f'timm=={version("timm")}'
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--no-binary', 'timm',
               '--dest', str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise MissingError(
            f'the source distribution of {requirement} can\'t be downloaded: {result.stderr.strip()[-300:]}')
    return next(folder.glob(f'{requirement.replace("==", "-")}.tar.gz'))


def run_suite(
        models: Sequence[str],
        report: Path,
        *,
        planned: Sequence[str] = (),
        twins: bool = False,
        kwargs: dict[str, dict] | None = None,
) -> Outcome:
    """Runs the tests of `models`.

    Args:
        models: Model names without tags.
        report: File for pytest's JUnit report.
        planned: Those that are made elastic as soon as they are created, instead of when a sub-network is first needed.
        twins: `models` are names of timm; the networks are `gradaug_<name>`.
        kwargs: By model's name what it is created with.
    """
    folder = suite_folder()
    environment = {
        **os.environ, 'TIMM_SUITE_MODELS': ','.join(models), 'TIMM_SUITE_PLANNED': ','.join(planned),
        'TIMM_SUITE_TWINS': str(int(twins)), 'TIMM_SUITE_KWARGS': json.dumps(kwargs or {}),
        'PYTHONPATH': os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get('PYTHONPATH', '')]),
    }
    environment.pop('GITHUB_ACTIONS', None)  # timm's tests do less there
    command = [
        sys.executable, '-m', 'pytest', str(folder / 'tests' / 'test_models.py'), '-q', '-p', 'timm_suite_plugin',
        '-p', 'no:cacheprovider', '-p', 'no:timeout', '--disable-warnings', f'--junitxml={report}',
        '-c', str(folder / 'pyproject.toml'),
    ]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=report.parent)
    cases = list(ElementTree.parse(report).iter('testcase')) if report.exists() else []
    return Outcome(
        passed=tuple(case.get('name') for case in cases if len(case.findall('*')) == 0),
        skipped=tuple(case.get('name') for case in cases if case.find('skipped') is not None),
        failed=tuple(case.get('name') for case in cases if {'failure', 'error'} & {child.tag for child in case}),
        code=result.returncode,
        output=(result.stdout + result.stderr)[-5000:],
    )
