"""The package as others get it: the wheel, the oldest Python's syntax, and the commands that the documents give."""
import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from processes import run_script

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob('gradaug_timm/**/*.py'))
TYPED = 'gradaug_timm/py.typed'  # tells type checkers that annotations are there


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources as pip does it."""
    source, target = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    shutil.copytree(ROOT / 'gradaug_timm', source / 'gradaug_timm', ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, '-m', 'pip', 'wheel', '.', '--no-deps', '-q', '-w', str(target)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    if 'No matching distribution found for setuptools' in built.stderr:
        pytest.skip('pip found no package index to get setuptools from')
    assert built.returncode == 0, built.stderr
    return next(target.glob('*.whl'))


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(name for name in names if '.dist-info/' not in name) == sorted([*MODULES, TYPED])
    assert any(name.endswith('LICENSE') for name in names)


def test_the_wheel_can_be_imported_from_anywhere(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    script = tmp_path / 'script.py'
    script.write_text(
        'import sys; sys.path.insert(0, sys.argv[1])\n'
        'import gradaug_timm, gradaug_timm.evaluation, gradaug_timm.training, timm\n'
        'print(gradaug_timm.__file__, timm.is_model("gradaug_resnet18"))')
    run = run_script(script, str(tmp_path / 'site'))
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(tmp_path / 'site' / 'gradaug_timm' / '__init__.py'), 'True']


@pytest.mark.parametrize('path', [*MODULES, 'train.py', 'validate.py'])
def test_the_oldest_supported_python_reads_it(path):
    ast.parse((ROOT / path).read_text(), feature_version=(3, 10))


def test_every_folder_of_modules_is_a_package():
    folders = {Path(path).parent for path in MODULES}
    assert all((ROOT / folder / '__init__.py').is_file() for folder in folders)


def code_lines(name):
    blocks = re.findall(r'^```(?:bash|sh)\n(.*?)^```', (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
    return [line.strip() for line in '\n'.join(blocks).replace('\\\n', ' ').splitlines() if line.strip()]


def test_the_readme_opens_with_the_quickstart_and_the_tests():
    assert code_lines('README.md')[:2] == [
        'pip install -e ".[quickstart]" && python train.py -c hparams/quickstart.yaml',
        'pip install -e ".[test]" && pytest',
    ]


def test_the_documents_describe_every_gradaug_flag():
    from gradaug_timm.training.arguments import build_parser
    flags = {flag for flag in build_parser()._option_string_actions if flag.startswith('--gradaug-')}
    text = (ROOT / 'docs' / 'training.md').read_text()
    missing = [flag for flag in sorted(flags) if f'`{flag}' not in text]
    assert flags and missing == [], 'describe them in docs/training.md'


def test_changes_and_citation_are_of_this_version():
    version = re.search(r'^version = (.*)', (ROOT / 'setup.cfg').read_text(), re.MULTILINE)[1]
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert re.search(r'^## ([\d.]+)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)[1] == version
    assert citation['version'] == version
    assert citation['preferred-citation']['url'].endswith('2006.07989')
