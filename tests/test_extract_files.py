"""Files that are not extracted networks, and networks that cannot be extracted, are rejected with the reason."""
import copy
import json
from functools import partial

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from gradaug_timm import Subnet, load_extracted, make_elastic, save_extracted

KEY = 'gradaug_timm'


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return make_elastic(timm.create_model('gradaug_resnet20_cifar', num_classes=6, depth=8).eval())


@pytest.fixture(scope='module')
def original(model, tmp_path_factory):
    path = tmp_path_factory.mktemp('extracted') / 'small.safetensors'
    save_extracted(model, Subnet(0.5, 4, skipped=(1,)), path, model_kwargs=dict(depth=8))
    return path


def rewritten(original, path, change):
    """A file in which `change` has had its way with the description and the tensors."""
    with safe_open(original, 'pt') as file:
        description, tensors = json.loads(file.metadata()[KEY]), {key: file.get_tensor(key) for key in file.keys()}
    change(description, tensors)
    save_file(tensors, path, {KEY: json.dumps(description)})


def put(key, value, description, tensors):
    description[key] = value


def put_number(name, value, description, tensors):
    description['numbers'][name] = value


def enlarge(description, tensors):
    tensors['conv1.weight'] = torch.zeros(99, 3, 3, 3)


def retype(description, tensors):
    tensors['conv1.weight'] = tensors['conv1.weight'].long()


BROKEN = {
    'newer': (partial(put, 'version', 2), 'it has format 2; this version of gradaug_timm reads formats up to 1'),
    'without version': (partial(put, 'version', None), 'has no version'),
    'of an unknown network': (partial(put, 'architecture', 'resnet51'), "'resnet51' is unknown to timm"),
    'from a repository': (partial(put, 'architecture', 'hf-hub:a/b'), "'hf-hub:a/b' is unknown to timm"),
    'with other weights': (partial(put, 'model_kwargs', {'checkpoint_path': 'x.pth'}), 'hold checkpoint_path'),
    'pretrained': (partial(put, 'model_kwargs', {'pretrained': True}), 'hold pretrained'),
    'of odd arguments': (partial(put, 'model_kwargs', {'deep': 8}), 'can\'t be created: '),
    'of wrong kinds': (partial(put, 'numbers', [1]), 'has no usable numbers'),
    'without a block': (partial(put, 'skipped', ['layer9.0']), "has no block 'layer9.0'"),
    'without itself': (partial(put, 'skipped', ['']), "has no block ''"),
    'without odd blocks': (partial(put, 'skipped', [{}]), 'has no block {}'),
    'without a part of a gap': (partial(put, 'skipped', ['layer1.0', 'layer1.0.bn1']), "no block 'layer1.0.bn1'"),
    'with an odd scale': (partial(put, 'scales', {'layer1.0.act2': 0.5}), "has no residual branch 'layer1.0.act2'"),
    'with an unknown number': (partial(put_number, 'layer1.9.x', 3), "has no number 'layer1.9.x' that could be 3"),
    'with a number for code': (partial(put_number, 'layer1.forward', 3), "has no number 'layer1.forward'"),
    'with text for a number': (partial(put_number, 'num_features', 'x'), "has no number 'num_features'"),
    'with other features': (partial(put, 'features', [1]), 'features, not (1,)'),
    'lacking a tensor': (lambda description, tensors: tensors.pop('conv1.weight'), 'it lacks conv1.weight'),
    'with another tensor': (lambda _, tensors: tensors.update(x=torch.zeros(1)), 'it has unknown x'),
    'too large': (enlarge, 'conv1.weight is of shape (99, 3, 3, 3), the full network\'s is (16, 3, 3, 3)'),
    'of integers': (retype, 'conv1.weight is of type torch.int64'),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_a_file_is_refused_that_is(kind, original, tmp_path):
    change, reason = BROKEN[kind]
    path = tmp_path / 'broken.safetensors'
    rewritten(original, path, change)
    with pytest.raises(ValueError) as refused:
        load_extracted(path)
    message = str(refused.value)
    assert message.startswith(f'{path} can\'t be opened: ') and reason in message and '\n' not in message


def test_it_opens_with_what_does_not_matter_changed_but_takes_no_weights_from_elsewhere(original, tmp_path):
    rewritten(original, tmp_path / 'same.safetensors', partial(put, 'data', {'crop_pct': 0.5, 'file': 'x.pth'}))
    cfg = load_extracted(tmp_path / 'same.safetensors').pretrained_cfg
    assert cfg['crop_pct'] == 0.5 and 'file' not in cfg


def test_missing_damaged_and_foreign_files_are_refused(original, tmp_path):
    data = original.read_bytes()
    cases = {'garbage': b'\x80\x05garbage' * 9, 'half': data[:len(data) // 2], 'empty': b''}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'{name} can\'t be read: '):
            load_extracted(tmp_path / name)
    with pytest.raises(ValueError, match='gone does not exist'):
        load_extracted(tmp_path / 'gone')
    save_file({'weight': torch.zeros(1)}, tmp_path / 'foreign')
    with pytest.raises(ValueError, match='foreign can\'t be opened: it is not a network extracted by gradaug_timm'):
        load_extracted(tmp_path / 'foreign')
    save_file({'weight': torch.zeros(1)}, tmp_path / 'broken', {KEY: '{"version": 1'})
    with pytest.raises(ValueError, match='broken can\'t be opened: its description is broken: '):
        load_extracted(tmp_path / 'broken')


@torch.no_grad()
def test_a_network_tells_its_own_arguments(tmp_path):
    model = make_elastic(timm.create_model(
        'gradaug_test_resnet', num_classes=6, in_chans=1, global_pool='max', act_layer='silu', drop_path_rate=0.2))
    dense = save_extracted(model, Subnet(0.5), tmp_path / 'small.safetensors')
    opened, x = load_extracted(tmp_path / 'small.safetensors'), torch.randn(2, 1, 64, 64)
    assert torch.equal(opened(x), dense(x))


def test_a_file_that_cannot_be_written_leaves_the_old_one(model, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, 'No space left on device')

    path = tmp_path / 'small.safetensors'
    path.write_text('before')
    monkeypatch.setattr('gradaug_timm.files.os.replace', fail)
    with pytest.raises(OSError, match=r'small.safetensors cannot be written: No space left on device'):
        save_extracted(model, Subnet(0.5), path)
    assert path.read_text() == 'before' and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match=r'gone.* cannot be written: No such file'):
        save_extracted(model, Subnet(0.5), tmp_path / 'gone' / 'small.safetensors')


@pytest.mark.parametrize('kwargs', [dict(depth=14), dict(depth=8, act_layer='silu')])
def test_arguments_that_make_another_network_are_refused_and_nothing_is_written(model, kwargs, tmp_path):
    path = tmp_path / 'small.safetensors'
    path.write_text('before')
    with pytest.raises(ValueError, match=r'resnet20_cifar with model_kwargs=.* is not the network to be saved: '):
        save_extracted(model, Subnet(0.5), path, model_kwargs=kwargs)
    assert path.read_text() == 'before'
    assert [file.name for file in tmp_path.iterdir()] == ['small.safetensors']


def test_arguments_that_are_no_plain_values_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match='must be plain values'):
        save_extracted(model, Subnet(0.5), tmp_path / 'x.safetensors', model_kwargs=dict(depth=8, act_layer=nn.ReLU))


def test_networks_that_timm_did_not_create_are_refused(model, tmp_path):
    own = make_elastic(nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1)))
    with pytest.raises(ValueError, match='Sequential can\'t be saved: it is not a classifier of timm'):
        save_extracted(own, Subnet(0.5), tmp_path / 'x.safetensors')
    renamed = copy.deepcopy(model)
    renamed.pretrained_cfg['architecture'] = 'mine'
    with pytest.raises(ValueError, match='CifarResNet can\'t be saved: '):
        save_extracted(renamed, Subnet(0.5), tmp_path / 'x.safetensors')
