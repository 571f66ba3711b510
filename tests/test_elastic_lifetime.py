"""Elastic networks stay elastic when they are copied, pickled, moved and changed."""
import copy
import pickle

import pytest
import timm
import torch
from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d
from torch import nn
from torch.nn.utils import prune

from gradaug_timm import Subnet, activate, extract, make_elastic
from gradaug_timm.elastic import is_elastic, set_statistics

SUBNET = Subnet(0.5, divisor=1)
SHALLOW = dict(layers=(1, 1, 1, 1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = timm.create_model('gradaug_resnet20_cifar', num_classes=4, depth=8).eval()
    return make_elastic(model)


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _as_subnet(model, images):
    with activate(model, SUBNET):
        return model(images)


def test_a_deep_copy_is_an_independent_elastic_network(model, images):
    twin = copy.deepcopy(model)
    expected = _as_subnet(model, images)
    with activate(model, SUBNET):
        assert not torch.equal(twin(images), expected)
    nn.init.zeros_(model.head.fc.weight)
    assert torch.equal(_as_subnet(twin, images), expected)


def test_a_pickled_network_comes_back_elastic(model, images):
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(_as_subnet(twin, images), _as_subnet(model, images))


def test_a_new_classifier_is_noticed(model, images):
    model.reset_classifier(9)
    assert _as_subnet(model, images).shape == (2, 9)
    assert torch.equal(extract(model, SUBNET)(images), _as_subnet(model, images))


def test_a_network_without_classifier_keeps_its_features_whole(model, images):
    model.reset_classifier(0)
    assert _as_subnet(model, images).shape == (2, 64)


def test_converted_batchnorms_are_noticed(model, images):
    expected = _as_subnet(model, images)
    converted = convert_sync_batchnorm(model).eval()
    assert type(converted.bn1) is nn.SyncBatchNorm
    assert torch.equal(_as_subnet(converted, images), expected)


def test_a_moved_network_stays_elastic(model, images):
    model.to(torch.float64)
    assert _as_subnet(model, images.double()).dtype == torch.float64
    assert torch.equal(extract(model, SUBNET)(images.double()), _as_subnet(model, images.double()))


def test_a_network_on_the_meta_device_can_be_planned():
    with torch.device('meta'):
        model = timm.create_model('gradaug_resnet20_cifar')
    with activate(model, SUBNET):
        assert model(torch.empty(2, 3, 32, 32, device='meta')).shape == (2, 100)


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode, lambda: torch.device('meta')])
def test_planning_works_in_any_mode_and_leaves_random_numbers_alone(mode, images):
    torch.manual_seed(3)
    expected = torch.randn(2)
    model = timm.create_model('gradaug_resnet20_cifar', depth=8).eval()
    torch.manual_seed(3)
    with mode(), activate(model, SUBNET):
        output = model(images)
    assert output.isfinite().all()
    assert torch.equal(torch.randn(2), expected)


def test_recalibrated_statistics_are_used_and_extracted(model, images):
    before = _as_subnet(model, images)
    set_statistics(model, SUBNET, {'bn1': (torch.full((8,), 0.3), torch.full((8,), 2.0))})
    after = _as_subnet(model, images)
    assert not torch.equal(after, before)
    dense = extract(model, SUBNET)
    assert torch.equal(dense.bn1.running_mean, torch.full((8,), 0.3))
    assert torch.equal(dense(images), after)
    with activate(model, Subnet(0.75)):
        assert model(images).isfinite().all()


def test_features_only_networks_run_as_subnetworks_with_whole_stage_outputs(images):
    model = make_elastic(timm.create_model(
        'gradaug_resnet18', features_only=True, out_indices=(1, 4), **SHALLOW)).eval()
    with activate(model, SUBNET):
        narrow = model(images)
    assert [feature.shape[1] for feature in narrow] == [64, 512]
    assert not torch.equal(narrow[1], model(images)[1])


@pytest.mark.parametrize('name, kwargs, stem', [
    ('resnet26', SHALLOW, 57), ('pyramidnet110_a270', dict(depth=20), 14)])
def test_features_only_networks_keep_the_plan_of_their_blocks(name, kwargs, stem):
    subnet = Subnet(0.9, divisor=1)
    whole = extract(timm.create_model(f'gradaug_{name}', **kwargs), subnet).state_dict()
    features = timm.create_model(f'gradaug_{name}', features_only=True, out_indices=(2,), **kwargs)
    features = extract(features, subnet).state_dict()
    shapes = {key: value.shape for key, value in features.items()}
    assert shapes['layer1.0.conv1.weight'] == whole['layer1.0.conv1.weight'].shape
    assert shapes['conv1.weight'][0] == stem


def test_a_copy_or_pickle_taken_of_an_active_subnetwork_is_the_full_network(model, images):
    expected = model(images)
    with activate(model, SUBNET):
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for twin in twins:
        assert torch.equal(twin(images), expected)
        with activate(twin, Subnet(0.75)):
            pass
        assert torch.equal(twin(images), expected)


def test_frozen_batchnorms_are_sliced(images):
    model = make_elastic(freeze_batch_norm_2d(timm.create_model('resnet18', **SHALLOW).eval()))
    dense = extract(model, SUBNET)
    assert dense.layer4[0].conv2.weight.shape[:2] == (256, 256)
    torch.testing.assert_close(dense(images), _as_subnet(model, images))


def test_layers_that_stay_whole_are_named(caplog):
    make_elastic(Toy(lambda x: x.view(-1, 4, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)))
    assert 'sub-networks keep all channels of conv1, conv2' in caplog.text


def test_an_attribute_called_module_is_no_wrapper(images):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = timm.create_model('resnet20_cifar', num_classes=0)
            self.fc = nn.Linear(64, 3)

        def forward(self, x):
            return self.fc(self.module(x))

    model = make_elastic(Wrapped()).eval()
    dense = extract(model, SUBNET)
    assert dense.fc.in_features == 32 and dense(images).shape == (2, 3)


def test_statistics_that_do_not_fit_are_refused(model):
    for statistics in ({'nope': (torch.zeros(8), torch.ones(8))}, {'bn1': (torch.zeros(5), torch.ones(5))}):
        with pytest.raises(ValueError, match=next(iter(statistics))):
            set_statistics(model, SUBNET, statistics)


def test_statistics_follow_the_precision_and_survive_a_new_classifier(model, images):
    set_statistics(model, SUBNET, {'bn1': (torch.full((8,), 0.3), torch.full((8,), 2.0))})
    model.double().reset_classifier(3)
    with_statistics = _as_subnet(model, images.double())
    set_statistics(model, SUBNET, {})
    assert not torch.equal(_as_subnet(model, images.double()), with_statistics)


def test_an_extracted_network_takes_a_new_classifier(model, images):
    for network in (model, timm.create_model('gradaug_resnet18', **SHALLOW)):
        dense = extract(network, SUBNET)
        dense.reset_classifier(3)
        assert dense(images).shape == (2, 3)


def test_a_block_that_was_added_is_noticed(model, images):
    model.layer1.append(copy.deepcopy(timm.create_model('resnet20_cifar').layer1[0]).eval())
    assert torch.equal(extract(model, SUBNET)(images), _as_subnet(model, images))


@pytest.mark.parametrize('network, words', [
    (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 'fails on an image'),
    (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 3)), 'fails on an image')])
def test_networks_that_the_probe_cannot_run_are_refused_plainly(network, words):
    with pytest.raises(ValueError, match=words):
        make_elastic(network)


def test_creating_a_registered_network_plans_nothing_yet():
    model = timm.create_model('gradaug_resnet18')
    assert is_elastic(model) and type(model.conv1) is nn.Conv2d


def test_a_plain_network_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r'make_elastic\(model\)'), activate(timm.create_model('resnet18'), SUBNET):
        pass


def test_a_network_that_fails_on_images_is_refused_and_left_unchanged():
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    with pytest.raises(ValueError, match='Sequential can\'t run as sub-networks: it fails on an image'):
        make_elastic(model)
    assert not is_elastic(model) and not any('gradaug' in type(module).__module__ for module in model.modules())


class Toy(nn.Module):
    """Two convolutions with some operation between."""

    def __init__(self, operation, twice=False):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 24, 3)
        self.fc = nn.Linear(24, 5)
        self.operation, self.twice = operation, twice

    def forward(self, x):
        x = self.operation(self.conv1(x))
        x = self.conv2(x)
        x = self.conv2(x) if self.twice else x
        return self.fc(torch.relu(self.conv3(x)).mean((2, 3)))


def test_channels_that_an_operation_mixes_stay_whole():
    model = make_elastic(Toy(lambda x: x.view(-1, 4, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2))).eval()
    dense = extract(model, SUBNET)
    assert dense.conv1.out_channels == 16 and dense.conv2.out_channels == 8 and dense.conv3.out_channels == 12
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(dense(images), _as_subnet(model, images))


def test_reversed_channels_are_followed():
    model = make_elastic(Toy(lambda x: x.flip(1))).eval()
    images = torch.randn(2, 3, 16, 16)
    silenced = copy.deepcopy(model)
    with torch.no_grad():
        for conv, kept in ((silenced.conv1, 8), (silenced.conv2, 8), (silenced.conv3, 12)):
            conv.weight[kept:], conv.bias[kept:] = 0, 0
        torch.testing.assert_close(_as_subnet(model, images), silenced(images))


def test_a_layer_that_runs_twice_keeps_the_same_channels_on_both_sides():
    model = make_elastic(Toy(lambda x: x[:, :16].relu(), twice=True)).eval()
    dense = extract(model, SUBNET)
    assert dense.conv2.weight.shape[:2] == (8, 8) and dense.conv1.out_channels == 8
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(dense(images), _as_subnet(model, images))


def test_a_pruned_weight_is_sliced_too(images):
    model = make_elastic(timm.create_model('resnet18', **SHALLOW).eval())
    prune.l1_unstructured(model.conv1, 'weight', amount=0.5)
    dense = extract(timm.create_model('gradaug_resnet18', **SHALLOW).eval(), SUBNET)
    with activate(model, SUBNET):
        assert model.conv1.weight.shape == dense.conv1.weight.shape and (model.conv1.weight == 0).any()
    assert model.conv1.weight.shape[0] == 64 and model(images).shape == (len(images), 1000)


def test_a_replica_of_data_parallel_holds_tensors_of_its_own():
    replica = make_elastic(timm.create_model('resnet18', **SHALLOW)).conv1._replicate_for_data_parallel()
    replica.weight = torch.ones(64, 3, 7, 7)  # as torch.nn.parallel.replicate does
    assert replica.weight.eq(1).all()
    with pytest.raises(AttributeError, match='bias_of_none'):
        _ = replica.bias_of_none


def test_a_network_that_has_computed_something_from_its_parameters_is_planned_and_extracted():
    network = timm.create_model('levit_128s', num_classes=5, img_size=64, depth=(1, 1, 1)).eval()
    images = torch.randn(1, 3, 64, 64)
    expected = network(images).detach()  # fills attention_bias_cache with tensors that can't be copied
    make_elastic(network)
    assert torch.equal(network(images), expected)
    dense = extract(network, SUBNET).eval()
    with activate(network, SUBNET):
        assert torch.allclose(network(images), dense(images), atol=1e-5)
