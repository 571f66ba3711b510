"""The private parts of timm, torch and argparse in `gradaug_timm.upstream` still behave as the package needs.

A failing test names the part that a library has changed. The last tests check the rule that private parts of
libraries are used only in upstream.py.
"""
import argparse
import ast
import functools
import importlib
from pathlib import Path

import pytest
import torch
from timm.data import ImageDataset
from timm.scheduler import PlateauLRScheduler
from timm.task import LogitDistillationTask
from timm.utils import CheckpointSaver, NativeScaler
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler

from gradaug_timm import upstream

PACKAGE = Path(upstream.__file__).parent


# argparse

@pytest.fixture
def parser() -> upstream.HookedParser:
    parser = upstream.HookedParser()
    parser.add_argument('-a', '--alpha', type=int, choices=[1, 2])
    parser.add_argument('--beta', dest='second', nargs='+', type=float)
    parser.add_argument('file')
    return parser


def test_a_parser_lists_its_flags_by_destination_and_by_spelling(parser):
    actions = upstream.parser_actions(parser)
    assert list(actions) == ['help', 'alpha', 'second', 'file'] and actions['alpha'].choices == [1, 2]
    flags = upstream.parser_flags(parser)
    assert list(flags) == ['-h', '--help', '-a', '--alpha', '--beta']
    assert flags['-a'] is flags['--alpha'] and flags['-a'].dest == 'alpha'


def test_one_text_is_converted_and_checked_as_a_command_line_would(parser):
    alpha = upstream.parser_actions(parser)['alpha']
    assert upstream.convert_text(parser, alpha, '2') == 2
    with pytest.raises(argparse.ArgumentError, match="invalid int value: 'two'"):
        upstream.convert_text(parser, alpha, 'two')
    assert upstream.check_choice(parser, alpha, 2) == 2
    with pytest.raises(argparse.ArgumentError, match='invalid choice: 3'):
        upstream.check_choice(parser, alpha, 3)


def test_a_parser_asks_its_hooks_for_every_value():
    calls = []

    class Noting(upstream.HookedParser):
        def convert_flag(self, action, texts):
            calls.append((action.dest, [*texts]))
            return super().convert_flag(action, texts)

        def check_flag(self, action, value):
            calls.append((action.dest, value))
            super().check_flag(action, value)

    parser = Noting()
    parser.add_argument('--alpha', type=int, choices=[1, 2])
    parser.add_argument('file')
    assert vars(parser.parse_args(['--alpha', '1', 'name'])) == {'alpha': 1, 'file': 'name'}
    assert [call for call in calls if call[0] == 'alpha'] == [('alpha', ['1']), ('alpha', 1)]
    assert ('file', ['name']) in calls


# The rule

DOCUMENTED = {'_replace', '_asdict', '_fields', '_make'}  # of named tuples, in Python's documentation
LIBRARIES = {
    private for each in (
        argparse.ArgumentParser(), argparse.Action('', ''), nn.Module(), torch.zeros(0), torch, torch.optim.SGD,
        torch.amp.GradScaler('cpu'), NativeScaler('cpu'), DataLoader([0]), upstream.MultiEpochsDataLoader([0]),
        DistributedSampler([0], 1, 0), RandomSampler([0]), CheckpointSaver, ImageDataset, PlateauLRScheduler,
        LogitDistillationTask, nn.parallel.DistributedDataParallel, torch.compile(nn.Identity()))
    for private in dir(each) if private.startswith('_') and not private.endswith('__')}


def is_private(name: str) -> bool:
    return name.startswith('_') and name != '_' and not name.endswith('__') and name not in DOCUMENTED


def own_names(tree: ast.AST) -> set[str]:
    """Private names that a module defines: functions, classes, variables, and attributes of `self` and `cls`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            found.add(node.attr)
    return set(filter(is_private, found))


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ('self', 'cls')


def foreign_privates(tree: ast.AST, ours: set[str]) -> list[str]:
    """Uses of private names but `ours`, without those of libraries; on `self` also those that this file itself sets."""
    here, found = own_names(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            allowed = here if is_self(node.value) else set()
            if node.attr not in allowed | (ours - LIBRARIES):
                found.append(f'{node.lineno}: {ast.unparse(node)}')
        elif isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, 'level', 0):
            names = [*(alias.name for alias in node.names), getattr(node, 'module', None) or '']
            if any(map(is_private, '.'.join(names).split('.'))):
                found.append(f'{node.lineno}: {ast.unparse(node)}')
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in LIBRARIES:
            found.append(f'{node.lineno}: {node.value!r}')
    return found


@functools.cache
def trees() -> dict[str, ast.AST]:
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding='utf-8'))
            for path in sorted(PACKAGE.rglob('*.py')) if path.name != Path(upstream.__file__).name
            or path.parent != PACKAGE}


def test_private_parts_of_libraries_are_used_in_upstream_alone():
    files = trees()
    ours = set().union(*map(own_names, files.values()))
    found = {name: foreign_privates(tree, ours) for name, tree in files.items()}
    found = {name: uses for name, uses in found.items() if uses}
    assert not found, f'move these into upstream.py, each with its reason and a test: {found}'


def test_our_classes_hide_no_private_name_of_a_librarys_class():
    hidden = []
    for name, tree in trees().items():
        if Path(name).name == '__main__.py':
            continue
        parts = [part for part in Path(name).with_suffix('').parts if part != '__init__']
        module = importlib.import_module('.'.join([PACKAGE.name, *parts]))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                bases = [base for base in vars(module)[node.name].__mro__ if PACKAGE.name not in base.__module__]
                hidden += [f'{node.name}.{own}' for own in own_names(node) if any(hasattr(base, own) for base in bases)]
    assert not hidden


@pytest.mark.parametrize('code', [
    'import torch._dynamo', 'from torch._dynamo import x', 'from torch.nn.modules.conv import _ConvNd', 'x._secret',
    'module._parameters', 'self._buffers', 'super()._get_values', 'torch._foreach_add_(a, b)', 'scaler._scaler._scale',
    'loader._iterator = None', "hasattr(network, '_orig_mod')", "vars(module)['_forward_hooks']"])
def test_the_rule_sees(code):
    assert foreign_privates(ast.parse(code), {'_own', '_parameters'})


@pytest.mark.parametrize('code', [
    'self._own', 'other._own', 'super()._own', 'from .files import _own', 'pair._replace(a=1)', 'x.__dict__', '_a = 1',
    'class A:\n    def f(self):\n        self._parameters = []\n    def g(self):\n        return self._parameters'])
def test_the_rule_allows(code):
    assert not foreign_privates(ast.parse(code), {'_own', '_parameters'})


def test_every_part_is_tested():
    tree = ast.parse(Path(upstream.__file__).read_text(encoding='utf-8'))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {target.id for node in tree.body if isinstance(node, ast.Assign) for targets in node.targets
                for target in ast.walk(targets) if isinstance(target, ast.Name)} | {*upstream.__all__}
    tested = {node.attr for path in Path(__file__).parent.glob('test_upstream*.py')
              for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
              if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == 'upstream'}
    assert {name for name in defined if not name.startswith('_')} - tested == {'PLATEAU_COUNTERS'}


def test_every_part_is_used():
    used = set()
    for tree in trees().values():
        used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == 'upstream'
                 for alias in node.names}
    waiting = {'parser_actions', 'convert_text', 'check_choice', 'init_distributed_device_so'}
    own = {'MultiEpochsDataLoader', 'ReaderImageFolder'}
    assert {*upstream.__all__} - used <= waiting | own
