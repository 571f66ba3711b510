"""The package as users get it: the wheel, the syntax of the oldest Python, and the commands in the documents."""
import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from processes import run_script

import gradaug_timm

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob('gradaug_timm/**/*.py'))
SETTINGS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob('hparams/**/*.yaml'))


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources as pip does it."""
    source, target = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    shutil.copytree(ROOT / 'gradaug_timm', source / 'gradaug_timm', ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copytree(ROOT / 'hparams', source / 'hparams')
    for name in ('setup.py', 'setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, '-m', 'pip', 'wheel', '.', '--no-deps', '-q', '-w', str(target)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    if 'No matching distribution found for setuptools' in built.stderr:
        pytest.skip('pip found no package index to get setuptools from')
    assert built.returncode == 0, built.stderr
    return next(target.glob('*.whl'))


def test_the_wheel_holds_every_module_and_all_settings_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    typed = ['gradaug_timm/py.typed'] if (ROOT / 'gradaug_timm' / 'py.typed').exists() else []
    shipped = sorted([*MODULES, *typed, *(f'gradaug_timm/{path}' for path in SETTINGS)])
    assert sorted(name for name in names if '.dist-info/' not in name) == shipped and SETTINGS
    assert any(name.endswith('LICENSE') for name in names)


def test_the_wheel_has_the_version_of_the_package(wheel):
    assert re.fullmatch(r'\d+\.\d+\.\d+', gradaug_timm.__version__)
    assert wheel.name.split('-')[:2] == ['gradaug_timm', gradaug_timm.__version__]


def test_an_index_shows_the_readme_without_links_that_work_only_in_the_source_tree(wheel):
    archive = zipfile.ZipFile(wheel)
    shown = archive.read(next(name for name in archive.namelist() if name.endswith('/METADATA'))).decode()
    assert 'Author: The gradaug_timm developers\n' in shown and 'Keywords: ' in shown
    links = re.findall(r'\]\(([^)]*)\)', shown)
    assert links and all(link.startswith('https://') for link in links)
    assert 'timm](https://' in shown and 'training (`docs/training.md`)' in shown and 'method.png' not in shown


def test_the_source_distribution_holds_every_file_of_the_repository():
    listed = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip('not a clone')
    words = [line.split() for line in (ROOT / 'MANIFEST.in').read_text().splitlines()]
    files = {file for command, *rest in words if command == 'include' for file in rest}
    folders = {folder for command, *rest in words if command == 'graft' for folder in rest}
    included = {'setup.py', 'setup.cfg', 'pyproject.toml', 'MANIFEST.in', '.gitignore'} | files  # most by setuptools
    assert [path for path in listed.stdout.splitlines()
            if path not in included and path.split('/')[0] not in {*folders, 'gradaug_timm'}] == []


def run_installed(wheel, folder, code):
    """Runs code elsewhere than in the clone, with the wheel's modules."""
    zipfile.ZipFile(wheel).extractall(folder / 'site')
    script = folder / 'script.py'
    script.write_text(f'import os, sys; sys.path.insert(0, sys.argv[1]); os.chdir(sys.argv[1])\n{code}')
    return run_script(script, str(folder / 'site'))


def test_the_wheel_can_be_imported_from_anywhere(wheel, tmp_path):
    run = run_installed(
        wheel, tmp_path,
        'import gradaug_timm, gradaug_timm.evaluation, gradaug_timm.training, timm\n'
        'print(gradaug_timm.__file__, timm.is_model("gradaug_resnet18"))')
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(tmp_path / 'site' / 'gradaug_timm' / '__init__.py'), 'True']


def test_the_wheel_finds_its_settings_by_name_from_anywhere(wheel, tmp_path):
    run = run_installed(
        wheel, tmp_path,
        'from gradaug_timm.training.arguments import build_parser, parse_arguments\n'
        'names = "cifar100/wide_resnet28_10_gradaug", "layers/cifar100_small.yaml"\n'
        'args, _ = parse_arguments(build_parser(), ["-c", *names])\n'
        'print(args.model, args.dataset, args.epochs)')  # of the file, its base, the layer
    assert run.stdout.split() == ['gradaug_wide_resnet28_10', 'torch/cifar100', '42'], run.stderr


@pytest.mark.parametrize('path', [*MODULES, 'setup.py', 'train.py', 'validate.py'])
def test_the_oldest_supported_python_reads_it(path):
    ast.parse((ROOT / path).read_text(), feature_version=(3, 11))


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


@pytest.mark.parametrize('name', ['README.md', 'CONTRIBUTING.md'])
def test_the_documents_name_flags_extras_and_files_that_exist(name):
    from gradaug_timm.evaluation.arguments import build_parser as validation_parser
    from gradaug_timm.training.arguments import build_parser as training_parser
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    known = {'train.py': training_parser(), 'validate.py': validation_parser()}
    lines = code_lines(name)
    assert lines
    for line in lines:
        assert all(setup.has_option('options.extras_require', extra) for extra in re.findall(r'\.\[(\w+)]', line))
        assert all((ROOT / path).exists() for path in re.findall(r'(?:hparams|tests|\.ci)/[\w./]+(?=[\s"]|$)', line))
        for script, parser in known.items():
            if re.search(rf'python {script}|torchrun .*{script}', line):
                flags = re.findall(r'(?<=\s)--[\w-]+', line.split(script)[1])
                assert set(flags) <= set(parser._option_string_actions), line


def test_the_page_of_training_describes_every_gradaug_flag():
    from gradaug_timm.training.arguments import build_parser
    flags = {flag for flag in build_parser()._option_string_actions if flag.startswith('--gradaug-')}
    text = (ROOT / 'docs' / 'training.md').read_text()
    assert flags and [flag for flag in sorted(flags) if f'`{flag}' not in text] == []
