"""Runs timm's own model tests on our models, in a process of their own.

The tests are those of the installed timm's source distribution: fetched once into a cache (`.cache/` of the project, or
the folder named by TIMM_SUITE_FOLDER), never part of this repository.
"""
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Outcome:
    """How many of timm's tests passed, which were skipped, which failed, and what pytest printed."""
    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[str, ...]
    code: int
    output: str


@cache
def suite_folder() -> Path:
    """The unpacked source distribution of the installed timm; skips the test where it can't be had."""
    name = f'timm-{version("timm")}'
    folder = Path(os.environ.get('TIMM_SUITE_FOLDER', TESTS.parent / '.cache' / 'timm_suite'))
    if not (folder / name / 'tests' / 'test_models.py').exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = _download(folder)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))  # 3.11.4 has it
    return folder / name


def _download(folder: Path) -> Path:
    requirement = f'timm=={version("timm")}'
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--no-binary', 'timm',
               '--dest', str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f'the source distribution of {requirement} can\'t be downloaded: {result.stderr.strip()[-300:]}')
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
