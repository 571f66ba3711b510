"""Changes that affect the plan change the fingerprint, and other changes do not."""
import copy
import importlib
import os
import pickle
import subprocess
import sys
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from gradaug_timm import Subnet, activate, make_elastic
from gradaug_timm.elastic import Skippable, blocks, plan_resnet, plans_by_probing
from gradaug_timm.elastic import fingerprint as rooms
from gradaug_timm.elastic.fingerprint import fingerprint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.act, self.norm = nn.ReLU(), nn.BatchNorm2d(8)
        self.register_buffer('index', torch.arange(8))
        self.order, self.function, self.sizes = 'post', F.relu, (4, 4)

    def forward(self, x):
        return self.two(self.norm(self.act(self.one(x))))[:, self.index]


def _set(path: str, value):
    def change(model):
        name, _, attribute = path.rpartition('.')
        setattr(model.get_submodule(name), attribute, value)
    return change


CHANGES = {
    'an integer': _set('two.groups', 2),
    'a number': _set('norm.eps', 1e-3),
    'a flag': _set('act.inplace', True),
    'a string': _set('order', 'pre'),
    'a tuple': _set('sizes', (2, 6)),
    'a new attribute': _set('extra', None),
    'a function': _set('function', F.gelu),
    'an argument of a function': _set('function', partial(F.leaky_relu, negative_slope=0.1)),
    'a tensor that is no parameter': _set('mask', torch.ones(2)),
    'input size': _set('pretrained_cfg', {'input_size': (3, 64, 64)}),
    'a class': _set('act', nn.GELU()),
    'a shape': _set('two', nn.Conv2d(8, 9, 1)),
    'a layer without bias': _set('two', nn.Conv2d(8, 8, 1, bias=False)),
    'one more layer': _set('three', nn.ReLU()),
    'integers of a buffer': lambda model: model.index.copy_(torch.arange(8).flip(0)),
    'a shared module': lambda model: _set('norm2', model.norm)(model),
    'a shared parameter': lambda model: _set('norm.bias', model.two.bias)(model),
    'names': lambda model: setattr(model, 'last', model._modules.pop('two')),
    'a method of its own': lambda model: setattr(model, 'forward', model.half),
}


def _print(model: nn.Module, planner=plans_by_probing) -> str | None:
    return fingerprint(model, planner, ignored=frozenset({'_elastic'}))


@pytest.mark.parametrize('name', CHANGES)
def test_another_structure_has_another_fingerprint(name):
    model, plain = Net(), _print(Net())
    CHANGES[name](model)
    assert plain is not None and _print(model) not in (plain, None)


def test_it_counts_with_whom_a_parameter_is_shared():
    one, two = Net(), Net()
    one.norm.bias, two.norm.bias = one.two.bias, two.norm.weight
    assert _print(one) != _print(two)


def test_the_values_of_tensors_outside_of_parameters_count():
    one, two = Net(), Net()
    one.mask, two.mask = torch.ones(2), torch.zeros(2)
    assert _print(one) != _print(two)


@pytest.mark.parametrize('change', [
    lambda model: model.half(), lambda model: model.eval(), lambda model: model.requires_grad_(False),
    lambda model: model.register_forward_hook(print), lambda model: nn.init.zeros_(model.one.weight),
    lambda model: model.norm(torch.randn(2, 8, 3, 3)), lambda model: model.zero_grad(),
    lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy,
])
def test_weights_modes_and_copies_have_the_same_fingerprint(change):
    model = Net()
    plain = _print(model)
    changed = change(model)
    assert plain is not None and _print(changed if isinstance(changed, Net) else model) == plain


def test_an_elastic_network_keeps_its_fingerprint_also_as_a_subnetwork():
    model = timm.create_model('resnet10t', num_classes=4)
    plain = _print(model, plan_resnet)
    with activate(make_elastic(model), Subnet(0.5)):
        assert _print(model, plan_resnet) == plain


def test_another_planner_has_another_fingerprint():
    assert len({_print(Net()), _print(Net(), plan_resnet)} - {None}) == 2


@pytest.mark.parametrize('package', [torch, timm])
def test_another_version_has_another_fingerprint(package, monkeypatch):
    plain = _print(Net())
    monkeypatch.setattr(package, '__version__', '99.0')
    assert _print(Net()) not in (plain, None)


def test_a_class_that_becomes_a_block_has_another_fingerprint():
    plain = _print(Net())
    blocks.register_block(nn.ReLU)(Skippable)
    try:
        assert _print(Net()) not in (plain, None)
    finally:
        blocks.BLOCKS.remove(nn.ReLU)


def _other_forward(self, x):
    return x


def test_what_transformers_puts_into_modules_changes_nothing(monkeypatch):
    pytest.importorskip('transformers')
    from transformers import PretrainedConfig, PreTrainedModel

    class Network(PreTrainedModel):
        config_class = PretrainedConfig
    monkeypatch.delattr(nn.Module, 'smart_apply', raising=False)
    before = _print(Net())
    Network(PretrainedConfig()).initialize_weights()
    assert 'smart_apply' in vars(nn.Module), 'transformers no longer does so'
    assert before is not None and _print(Net()) == before


def test_a_method_put_into_a_class_of_timm_counts(monkeypatch):
    model = ResNet(BasicBlock, [1, 1, 1, 1])
    plain = _print(model)
    monkeypatch.setattr(BasicBlock, 'forward', _other_forward)
    assert _print(model) not in (plain, None)


@pytest.mark.parametrize('value', [lambda x: x, object.__new__(type('Local', (), {})), sys.stdout])
def test_what_has_no_stable_description_gives_none(value):
    model = Net()
    model.extra = value
    assert _print(model) is None


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """Imports a user's network that takes a constant from a second file, with the constant's line."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)

    def load(line: str, *, changed: float = 0) -> nn.Module:
        package = tmp_path / 'own_package'
        package.mkdir(exist_ok=True)
        files = {'__init__.py': '', 'sizes.py': line, 'net.py': '\n'.join([
            'from torch import nn', 'from .sizes import SIZE', 'class Own(nn.Linear):',
            '    def __init__(self):', '        super().__init__(3, 8)',
            '    def forward(self, x):', '        return super().forward(x)[:, :SIZE]'])}
        for name, text in files.items():
            (package / name).write_text(text)
            os.utime(package / name, (changed, changed))
        for name in [name for name in sys.modules if name.startswith('own_package')]:
            monkeypatch.delitem(sys.modules, name)
        rooms._source.cache_clear()
        importlib.invalidate_caches()
        return importlib.import_module('own_package.net').Own()

    yield load
    rooms._source.cache_clear()


def test_a_users_own_code_counts_in_every_file_that_it_uses(own_package):
    prints = [_print(own_package(line)) for line in ('SIZE = 4', 'SIZE = 5', 'SIZE = 4')]
    assert None not in prints and prints[0] == prints[2] != prints[1]


def test_code_changed_since_it_was_imported_gives_none(own_package):
    assert _print(own_package('SIZE = 4', changed=rooms.STARTED + 5)) is None


OTHERS = 'gradaug_timm.detection.train, webdataset, timm.data.readers.reader_wds, torch._inductor'


@pytest.mark.parametrize('imported', ['sys', OTHERS])
def test_another_process_finds_the_same_fingerprint(imported):
    if imported == OTHERS:
        pytest.importorskip('webdataset')
    code = (f'import timm, {imported}; from gradaug_timm.elastic import fingerprint, plans_by_probing;'
            'print(fingerprint.fingerprint(timm.create_model("test_vit"), plans_by_probing))')
    other = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True, timeout=120,
                           env={**os.environ, 'PYTHONHASHSEED': '1'})
    assert other.stdout.strip() == _print(timm.create_model('test_vit'))


def test_compiling_a_network_leaves_fingerprints_as_they_were():
    model = timm.create_model('test_resnet')
    before = fingerprint(model, plans_by_probing)
    torch.compile(nn.Linear(2, 2), backend='eager')(torch.zeros(1, 2))
    assert before is not None and fingerprint(model, plans_by_probing) == before
