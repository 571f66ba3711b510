"""Every command and snippet of the documents is run, or is checked and marked with what it needs.

A fenced block may have one comment on the line before it:
    <!-- needs: data -->            not run: it needs one or more of NEEDS; its flags and files are checked all the same
    <!-- run with: --epochs 1 -->   run with these flags at the end of each command
    <!-- tested by: tests/x.py -->  run by that file of tests, which names the page
Without one it is run: the blocks of a page one after the other, in one folder (and Python in one namespace).
"""
import ast
import configparser
import contextlib
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
from document_blocks import PAGES, ROOT, Block, blocks

from gradaug_timm import files
from gradaug_timm.cli import StrictParser
from gradaug_timm.training.arguments import build_parser, parse_arguments

NEEDS = {
    'data': 'images, or a checkpoint, that a reader has',
    'gpu': 'a CUDA device',
    'network': 'a download',
    'time': 'more than a few seconds',
    'machines': 'several processes or machines',
    'package': 'a package that the extra `test` has not',
}
LANGUAGES = ('bash', 'python', 'text', 'yaml', 'json', 'bibtex', 'csv')
FREE = (  # commands of others, taken as they are
    'cd', 'git', 'ls', 'cat', 'mkdir', 'cp', 'mv', 'rm', 'ln', 'tar', 'kill', 'sleep', 'hostname', 'head', 'tail',
    'sbatch', 'scancel', 'squeue', 'scontrol', 'tensorboard', 'wandb', 'trackio', 'hf', 'nvidia-smi', 'ruff', 'mypy')
PYTHON = re.compile(r'-m (pip|venv)|timm/train\.py')  # what `python` may run beside our programs
LAUNCHERS = ('python', 'torchrun', 'srun', 'nice', 'accelerate', 'env')


def scripts() -> dict[str, str]:
    """The commands that setup.cfg installs, and the function of each."""
    lines = SETUP.get('options.entry_points', 'console_scripts', fallback='').splitlines()
    return {name.strip(): place.strip() for name, place in (line.split('=') for line in lines if line.strip())}


SETUP = configparser.ConfigParser()
SETUP.read(ROOT / 'setup.cfg')
SCRIPTS = scripts()


def program(command: list[str]) -> tuple[str, list[str]] | None:
    """Which of our programs a command runs, and with which arguments; None: none of ours."""
    if command[0] not in (*LAUNCHERS, *SCRIPTS):
        return None
    for index, word in enumerate(command):
        if word in SCRIPTS or word in ('train.py', 'validate.py', 'docs/reference.py'):
            return word, command[index + 1:]
        if word == '-m' and command[index + 1].split('.')[0] in ('gradaug_timm', 'benchmarks'):
            return command[index + 1], command[index + 2:]
    return None


def run(name: str, arguments: list[str]) -> None:
    """Runs one of our programs in this process; its exit with another code than 0 is an AssertionError."""
    with patch.object(sys, 'argv', [name, *arguments]):
        try:
            if name in SCRIPTS:
                module, function = SCRIPTS[name].split(':')
                getattr(import_module(module), function)()
            elif name.endswith('.py'):
                runpy.run_path(str(ROOT / name), run_name='__main__')
            else:
                runpy.run_module(name, run_name='__main__', alter_sys=True)
        except SystemExit as ended:
            assert not ended.code, f'{name} ended with {ended.code}'


class Parsed(BaseException):
    """Ends a program once it has taken its flags."""


WEIGHTS = '--pretrained-path'


def check_flags(name: str, arguments: list[str]) -> None:
    """Raises AssertionError or SystemExit where the program wouldn't take these arguments."""
    if name in ('train.py', 'gradaug-train'):
        kept = [word for word in arguments if word != 'lite0.safetensors']  # an earlier command of the page writes it
        parse_arguments(build_parser(), [word for word in kept if len(kept) == len(arguments) or word != WEIGHTS])
        return
    take = StrictParser.parse_args

    def take_and_stop(parser, *given, **named):
        take(parser, *given, **named)
        if given != ([],):  # the defaults
            raise Parsed

    with patch.object(StrictParser, 'parse_args', take_and_stop), contextlib.suppress(Parsed):
        run(name, arguments)


def check_other(command: list[str]) -> None:
    """Raises AssertionError where a command that isn't ours is unknown, or names what isn't there."""
    first, *others = command
    if first == 'pip' or command[:3] == ['python', '-m', 'pip']:
        extras = re.findall(r'\[([\w,]+)\]', ' '.join(others))
        unknown = [each for names in extras for each in names.split(',')
                   if not SETUP.has_option('options.extras_require', each)]
        assert not unknown, f'setup.cfg has no extra {unknown}'
    elif first == 'pytest':
        missing = [word for word in others if word.startswith('tests/') and not (ROOT / word.split('::')[0]).exists()]
        assert not missing, f'there is no {missing}'
    elif first == 'bash':
        assert (ROOT / others[0]).is_file(), f'there is no {others[0]}'
    elif first == 'python':
        assert PYTHON.match(' '.join(others)), 'no program of ours, nor one that tests/test_documents.py knows'
    else:
        assert first in (*FREE, 'source') or re.fullmatch(r'python3\.\d+', first), (
            f'{first} is no command that tests/test_documents.py knows: add it to FREE there, or write ```text')


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where a page's commands run, as in a clone."""
    for name in ('benchmarks', 'hparams'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'notes').mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize('page', PAGES)
def test_blocks_say_what_they_are_and_need(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f'{block.place}: write one of {", ".join(LANGUAGES)} behind the ```'
        assert set(block.needs) <= set(NEEDS), f'{block.place}: needs: must name some of {", ".join(NEEDS)}'
        if block.tested_by:
            file = ROOT / block.tested_by
            assert file.is_file(), f'{block.place}: there is no {block.tested_by}'
            assert Path(page).name in file.read_text(), f'{block.place}: {block.tested_by} doesn\'t read this page'


@pytest.mark.parametrize('page', PAGES)
def test_commands_that_are_not_run_have_flags_and_files_that_exist(page, folder, capsys):
    for block in (block for block in blocks(page) if block.language == 'bash' and not block.is_run):
        commands = block.commands(folder / 'notes')
        assert commands, f'{block.place}: no command was found; is it valid bash? Else write ```text'
        for command in commands:
            check(block, command, capsys)


def check(block: Block, command: list[str], capsys) -> None:
    """Fails with the place, the command and the reason."""
    ours = program(command)
    try:
        check_flags(*ours) if ours else check_other(command)
    except (AssertionError, SystemExit) as error:
        reason = capsys.readouterr().err.strip().splitlines()[-1:] or [error]
        pytest.fail(f'{block.place}: {" ".join(command)}\n{reason[0]}', pytrace=False)


@pytest.mark.parametrize(('line', 'reason'), [
    ('python train.py --data-dirr DIR', 'did you mean --data-dir'),
    ('python train.py -c hparams/quickstrat.yaml', 'quickstrat.yaml'),
    ('torchrun --nproc-per-node 2 train.py --lr much', "'much' must be a number"),
    ('for w in 0.9 1.5; do python validate.py --model resnet18 --width $w; done', "'1.5' must be"),
    ('python -m gradaug_timm.report', 'RUN'),
    ('python -m gradaug_timm.detection.train --detector mask', 'mask_rcnn'),
    ('pip install -e ".[quickstrat]"', 'no extra'),
    ('pytest tests/test_nothing.py', 'test_nothing.py'),
    ('python trian.py', 'no program of ours'),
    ('frobnicate --now', 'no command that'),
])
def test_a_wrong_command_is_found(line, reason, folder, capsys):
    command = Block('PAGE.md', 1, 'bash', f'{line}\n').commands(folder / 'notes')[-1]
    with pytest.raises(pytest.fail.Exception, match=f'PAGE.md, line 1: (?s:.*){reason}'):
        check(Block('PAGE.md', 1, 'bash', ''), command, capsys)


@pytest.mark.parametrize('page', [page for page in PAGES if any(block.is_run for block in blocks(page))])
def test_blocks_that_need_nothing_run(page, folder, capsys):
    names = {'__name__': 'page'}
    for block in blocks(page):
        try:
            if block.is_run and block.language == 'python':
                exec(compile(block.text, block.place, 'exec'), names)
            if block.is_run and block.language == 'bash':
                run_commands(block, folder)
        except Exception as error:
            printed = capsys.readouterr().err.strip().splitlines()[-1:]
            pytest.fail(f'{block.place} fails: {type(error).__name__}: {error} {" ".join(printed)}\n'
                        'Mend it, or write a comment on the line before it: <!-- needs: WHAT -->, '
                        '<!-- run with: FLAGS -->, <!-- tested by: tests/FILE -->', pytrace=False)


def run_commands(block: Block, folder: Path) -> None:
    """Runs a block's commands; those of installation and tests are only checked."""
    commands = block.commands(folder / 'notes')
    assert commands, 'no command was found; is it valid bash?'
    for command in commands:
        ours = program(command)
        with patch.object(files, 'flush'):
            run(ours[0], [*ours[1], *block.extra]) if ours else check_other(command)


@pytest.mark.parametrize('page', PAGES)
def test_python_that_is_not_run_imports_what_exists(page):
    for block in (block for block in blocks(page) if block.language == 'python' and not block.is_run):
        for node in ast.walk(ast.parse(block.text, block.place)):
            if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] == 'gradaug_timm':
                missing = [name.name for name in node.names if not hasattr(import_module(node.module), name.name)]
                assert not missing, f'{block.place}: {node.module} has no {missing}'


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)', path.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r'^```.*?^```', '', (ROOT / page).read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        target, _, anchor = link.partition('#')
        if re.match(r'\w+:', target):
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f'{page}: the link {link} leads to no file'
        assert not anchor or anchor in anchors(path), f'{page}: {target or page} has no heading for #{anchor}'


def test_the_readme_leads_to_every_page():
    """Cards are found in their folder, whose own page the README names."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    cards = [page for page in PAGES if page.startswith('docs/cards/') and page != 'docs/cards/README.md']
    missing = [page for page in PAGES if page not in ('README.md', *cards) and f']({page}' not in text]
    assert missing == [], f'add to the list of documents in README.md: {", ".join(missing)}'


def test_the_reference_is_that_of_the_code():
    module = runpy.run_path(str(ROOT / 'docs' / 'reference.py'))
    written = (ROOT / 'docs' / 'reference.md').read_text(encoding='utf-8')
    assert written == module['reference'](), 'run: python docs/reference.py'
