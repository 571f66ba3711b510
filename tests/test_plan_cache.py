"""Plans are read from disk unchanged, and damaged files there are replaced without an error."""
import hashlib
import json
import logging
import multiprocessing
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from gradaug_timm import Subnet, activate, make_elastic
from gradaug_timm.elastic import Group, Plan, Side, cache, network
from gradaug_timm.elastic.cache import cached_plan
from gradaug_timm.models import PyramidNet

NETWORKS = {
    'resnet': lambda: timm.create_model('resnet14t', num_classes=4),  # inner channels counted by expansion
    'vit': lambda: timm.create_model('test_vit', num_classes=4),
    'pyramidnet': lambda: PyramidNet(depth=20, alpha=24, bottleneck=True),  # planned without probing
    'small': lambda: Small(),
}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.sizes = (16, 8)
        self.one, self.two, self.three = nn.Conv2d(3, 24, 3), nn.Conv2d(16, 24, 1), nn.Conv2d(8, 24, 1)
        self.fc = nn.Linear(24, 4)

    def forward(self, x):
        a, b = self.one(x).relu().split(self.sizes, 1)
        return self.fc((self.two(a) + self.three(b)).mean((2, 3)))


class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        raise RuntimeError('takes nothing')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('GRADAUG_CACHE_DIR', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'plans'


@pytest.fixture
def no_planning(monkeypatch):
    def forbid():
        monkeypatch.setattr(network, 'validated', lambda *_: pytest.fail('planned again'))
    return forbid


def _described(plan: Plan) -> dict:
    def side(value):
        return value and (value.group.tolist(), value.rank.tolist())

    described = {field.name: getattr(plan, field.name) for field in fields(plan)}
    described['tensors'] = {name: tuple(map(side, dims)) for name, dims in plan.tensors.items()}
    described['numbers'] = {name: tuple(map(side, counted)) if isinstance(counted, tuple) else side(counted)
                            for name, counted in plan.numbers.items()}
    return described


def _plan_of(model: nn.Module) -> Plan:
    return make_elastic(model)._elastic.plan


def _made_up_plan() -> Plan:
    """A plan of `Small` with all that a plan can hold."""
    heads = Side(np.repeat([0, 1], 12), np.repeat(np.arange(12) % 6, 2))
    mixed = Side(np.array([1, -1, 0, 1] * 4), np.array([3, 0, 5, 1] * 4))
    return Plan(
        (Group(6, size=2, step=3), Group(6, expansion=4)),
        {'one.weight': (heads, None, None, None), 'one.bias': (heads,), 'two.weight': (None, mixed, None, None)},
        {'one.out_channels': heads, 'sizes': (mixed, None)},
        ('one', 'two'),
        frozenset({1}),
    )


@pytest.mark.parametrize('name', NETWORKS)
def test_a_plan_from_the_cache_equals_the_planned_one_which_is_not_made_again(name, no_planning, monkeypatch):
    planned = _plan_of(NETWORKS[name]())
    no_planning()
    read = _plan_of(NETWORKS[name]())
    assert read is not planned and _described(read) == _described(planned)


def test_all_that_a_plan_can_hold_is_kept():
    made = _made_up_plan()
    assert cached_plan(Small(), _made_up_plan, lambda: made) is made
    read = cached_plan(Small(), _made_up_plan, pytest.fail)
    assert _described(read) == _described(made)
    assert read.tensors['one.weight'][0] is read.tensors['one.bias'][0] is read.numbers['one.out_channels']


def test_a_subnetwork_by_a_cached_plan_gives_the_same_outputs(no_planning):
    torch.manual_seed(0)
    model, twin = Small(), Small()
    twin.load_state_dict(model.state_dict())
    images, outputs = torch.randn(2, 3, 16, 16), []
    for one in (make_elastic(model), twin):
        no_planning()
        with activate(make_elastic(one), Subnet(0.5, divisor=1)):
            outputs.append(one(images))
    assert torch.equal(*outputs)


def test_what_stays_whole_is_told_on_a_hit_too(monkeypatch, caplog, no_planning):
    plain = network.validated
    monkeypatch.setattr(network, 'validated', lambda *args: replace(plain(*args), frozen=frozenset({0})))
    messages = []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            make_elastic(Small())
        messages.append(caplog.messages)
        no_planning()
    assert messages[0] == messages[1]
    assert len(messages[0]) == 1 and 'Small: sub-networks keep all channels of one' in messages[0][0]


def test_a_refusal_is_not_cached(folder):
    for _ in range(2):
        with pytest.raises(ValueError, match='takes nothing'):
            make_elastic(Refused())
    assert not folder.exists()


def _edited(change):
    """What a file becomes when its plan is changed and the checksum made to fit."""
    def damage(text: str, key: str) -> bytes:
        plan = json.loads(text)['plan']
        change(plan)
        checksum = hashlib.sha256(f'{key} {json.dumps(plan, sort_keys=True)}'.encode()).hexdigest()
        return json.dumps({'checksum': checksum, 'plan': plan}).encode()
    return damage


DAMAGES = {
    'empty': lambda text, key: b'',
    'cut off': lambda text, key: text[:len(text) // 2].encode(),
    'garbage': lambda text, key: bytes(range(256)) * 8,
    'no mapping': lambda text, key: b'[1, 2]',
    'nested': lambda text, key: b'[' * 100_000,
    'a digit': lambda text, key: text.replace('"units":6', '"units":7').encode(),
    'no field': _edited(lambda plan: plan.pop('numbers')),
    'no list': _edited(lambda plan: plan.update(groups=3)),
    'an unknown field': _edited(lambda plan: plan['groups'][0].update(colour=1)),
    'no units': _edited(lambda plan: plan['groups'][0].update(units=0)),
    'half a unit': _edited(lambda plan: plan['groups'][0].update(size=0.5)),
    'an unknown tensor': _edited(lambda plan: plan['tensors'].update({'four.weight': [0]})),
    'too few sides': _edited(lambda plan: plan['tensors'].update({'one.weight': [0]})),
    'an unknown side': _edited(lambda plan: plan['tensors'].update({'one.bias': [99]})),
    'a side from the end': _edited(lambda plan: plan['tensors'].update({'one.bias': [-1]})),
    'an unknown group': _edited(lambda plan: plan['sides'][0].__setitem__(0, [[9, 24]])),
    'a group below': _edited(lambda plan: plan['sides'][0].__setitem__(0, [[-2, 24]])),
    'a unit above': _edited(lambda plan: plan['sides'][0].__setitem__(1, [[99, 24]])),
    'a unit below': _edited(lambda plan: plan['sides'][0].__setitem__(1, [[-1, 24]])),
    'a short side': _edited(lambda plan: plan['sides'].__setitem__(0, [[[0, 1]], [[0, 1]]])),
    'an uneven side': _edited(lambda plan: plan['sides'][0].__setitem__(0, [[0, 23]])),
    'fractions': _edited(lambda plan: plan['sides'][0].__setitem__(0, [[0.5, 24]])),
    'an unknown number': _edited(lambda plan: plan['numbers'].update({'one.colour': 0})),
    'an unknown module': _edited(lambda plan: plan['numbers'].update({'four.groups': 0})),
    'too many items': _edited(lambda plan: plan['numbers'].update(sizes=[0, 0, 0])),
    'an unknown block': _edited(lambda plan: plan['blocks'].append('four')),
    'an unknown frozen group': _edited(lambda plan: plan['frozen'].append(9)),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_a_file_with_something_wrong_is_made_again(name, folder):
    made = _made_up_plan()
    cached_plan(Small(), _made_up_plan, lambda: made)
    file, = folder.iterdir()
    good = file.read_bytes()
    file.write_bytes(DAMAGES[name](good.decode(), file.stem))
    assert cached_plan(Small(), _made_up_plan, lambda: made) is made
    assert [f.read_bytes() for f in folder.iterdir()] == [good]


def test_the_edited_files_are_wrong_for_their_edits_alone(folder):
    cached_plan(Small(), _made_up_plan, _made_up_plan)
    file, = folder.iterdir()
    file.write_bytes(_edited(lambda plan: None)(file.read_text(), file.stem))
    assert _described(cached_plan(Small(), _made_up_plan, pytest.fail)) == _described(_made_up_plan())


def test_the_file_of_another_network_is_not_taken(folder):
    small = _plan_of(Small())
    file, = folder.iterdir()
    wider = Small()
    wider.fc = nn.Linear(24, 5)
    _plan_of(wider)
    other, = set(folder.iterdir()) - {file}
    file.write_bytes(other.read_bytes())
    assert _described(_plan_of(Small())) == _described(small)
    assert file.read_bytes() != other.read_bytes()


def _read_and_write(worker: int, folder, results) -> None:
    made = _made_up_plan()
    for turn in range(40):
        if turn % 4 == worker % 4:
            for file in folder.glob('*.json'):
                file.unlink(missing_ok=True)
        results.put(_described(cached_plan(Small(), _made_up_plan, lambda: made)) == _described(made))


def test_processes_may_write_at_once(folder):
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    workers = [context.Process(target=_read_and_write, args=(worker, folder, results)) for worker in range(4)]
    for worker in workers:
        worker.start()
    assert all(results.get(timeout=60) for _ in range(4 * 40))
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(list(folder.iterdir())) == 1 and len(list(folder.parent.iterdir())) == 1  # nothing is left aside
    cached_plan(Small(), _made_up_plan, pytest.fail)


def test_a_write_that_breaks_off_leaves_no_file(folder, monkeypatch):
    def fail(*_):
        raise OSError('no space left')

    monkeypatch.setattr(Path, 'replace', fail)
    made = _made_up_plan()
    assert cached_plan(Small(), _made_up_plan, lambda: made) is made
    assert not list(folder.iterdir()) and len(list(folder.parent.iterdir())) == 1


def test_without_a_folder_to_write_networks_are_planned(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('GRADAUG_CACHE_DIR', str(tmp_path / 'file'))
    made = _made_up_plan()
    assert cached_plan(Small(), _made_up_plan, lambda: made) is made
    assert cached_plan(Small(), _made_up_plan, lambda: made) is made


def test_an_empty_variable_turns_the_cache_off(tmp_path, monkeypatch):
    monkeypatch.setenv('GRADAUG_CACHE_DIR', '')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = _made_up_plan()
    for _ in range(2):
        assert cached_plan(Small(), _made_up_plan, lambda: made) is made
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('variable, below', [('XDG_CACHE_HOME', '.'), ('HOME', '.cache')])
def test_by_default_plans_are_where_caches_of_the_user_are(variable, below, tmp_path, monkeypatch):
    monkeypatch.delenv('GRADAUG_CACHE_DIR')
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    cached_plan(Small(), _made_up_plan, _made_up_plan)
    assert len(list((tmp_path / below / 'gradaug_timm' / 'plans').glob('*.json'))) == 1


def test_the_oldest_files_go(folder, monkeypatch):
    monkeypatch.setattr(cache, 'KEPT_FILES', 2)
    models = [Small() for _ in range(3)]
    for age, model in enumerate(models):
        model.label = age
        cached_plan(model, _made_up_plan, _made_up_plan)
    assert len(list(folder.iterdir())) == 2
    for model in models[1:]:
        cached_plan(model, _made_up_plan, pytest.fail)


def test_a_network_that_can_not_be_told_by_its_attributes_is_planned_each_time(folder):
    model, made = Small(), _made_up_plan()
    model.scale = lambda x: 2 * x
    for _ in range(2):
        assert cached_plan(model, _made_up_plan, lambda: made) is made
    assert not folder.exists()
