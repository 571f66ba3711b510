"""`gradaug_*` in timm's registry: the networks, keys, weights and configurations of timm."""
import subprocess
import sys

import pytest
import safetensors.torch
import timm
import torch
from timm.models import get_arch_pretrained_cfgs

import gradaug_timm  # noqa: F401  (registers the models)
from gradaug_timm.elastic import is_elastic

CIFAR = ('resnet20_cifar', 'resnet56_cifar', 'resnet110_cifar', 'wide_resnet16_8', 'wide_resnet28_10',
         'pyramidnet110_a270', 'pyramidnet200_a240')


def small_image(name: str) -> torch.Tensor:
    return torch.randn(2, 3, 32 if name in CIFAR else 64, 32 if name in CIFAR else 64)


def test_every_resnet_of_timm_and_every_cifar_network_has_its_elastic_twin():
    twins = {f'gradaug_{name}' for name in (*timm.list_models(module='resnet'), *CIFAR)}
    assert set(timm.list_models('gradaug_*')) == twins
    assert {'gradaug_resnet50', 'gradaug_resnext50_32x4d', 'gradaug_seresnet50', 'gradaug_resnet50d'} <= twins
    assert all(timm.is_model(name) for name in twins)


def test_timms_own_lists_of_modules_stay_as_they_are():
    assert not [name for name in timm.list_models(module='resnet') if name.startswith('gradaug_') or name in CIFAR]
    assert len(timm.list_models(module='gradaug_models')) == len(timm.list_models('gradaug_*'))


def test_registered_configurations_point_at_timms_weights():
    for name in timm.list_models('gradaug_*'):
        ours = get_arch_pretrained_cfgs(name)
        timms = get_arch_pretrained_cfgs(name.removeprefix('gradaug_'))
        assert list(ours) == [f'gradaug_{name_and_tag}' for name_and_tag in timms]
        for ours_cfg, timms_cfg in zip(ours.values(), timms.values()):
            assert ours_cfg.architecture == name
            assert {**ours_cfg.to_dict(), 'architecture': None} == {**timms_cfg.to_dict(), 'architecture': None}
        default = timm.get_pretrained_cfg(name)
        assert default.tag == timm.get_pretrained_cfg(name.removeprefix('gradaug_')).tag


def test_pretrained_lists_name_the_tags():
    assert 'gradaug_resnet50.a1_in1k' in timm.list_pretrained('gradaug_resnet50')
    assert not timm.list_pretrained('gradaug_*cifar')


def test_a_tag_resolves_to_timms_hub_repository():
    with torch.device('meta'):
        cfg = timm.create_model('gradaug_resnet50.a2_in1k').pretrained_cfg
    assert cfg['hf_hub_id'] == 'timm/resnet50.a2_in1k'
    assert cfg['url'].endswith('resnet50_a2_0-a2746f79.pth')
    assert (cfg['architecture'], cfg['tag']) == ('gradaug_resnet50', 'a2_in1k')


def test_an_unknown_tag_is_refused():
    with pytest.raises(RuntimeError, match='nonsense'):
        timm.create_model('gradaug_resnet18.nonsense')


@pytest.mark.parametrize('name', ['resnet18', 'resnet50', 'resnext50_32x4d', 'seresnet18', 'resnet26t', 'resnetaa50',
                                  'resnet20_cifar', 'wide_resnet16_8', 'pyramidnet110_a270'])
@torch.no_grad()
def test_state_dicts_are_exchanged_strictly_and_outputs_are_bit_identical(name):
    torch.manual_seed(0)
    plain, elastic = timm.create_model(name).eval(), timm.create_model(f'gradaug_{name}').eval()
    x = small_image(name)
    elastic.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(elastic(x), plain(x))
    for parameter in elastic.parameters():
        parameter.mul_(0.9)
    plain.load_state_dict(elastic.state_dict(), strict=True)
    assert torch.equal(elastic(x), plain(x))


@pytest.mark.parametrize('num_classes', [1000, 5])
def test_pretrained_weights_are_loaded(tmp_path, num_classes):
    torch.manual_seed(0)
    weights = timm.create_model('resnet18').state_dict()
    safetensors.torch.save_file(weights, tmp_path / 'model.safetensors')
    model = timm.create_model(
        'gradaug_resnet18.a1_in1k', pretrained=True, num_classes=num_classes, in_chans=3,
        pretrained_cfg_overlay=dict(file=str(tmp_path / 'model.safetensors')))
    loaded = model.state_dict()
    different = [key for key, tensor in weights.items() if not torch.equal(loaded[key], tensor)]
    assert different == ([] if num_classes == 1000 else ['fc.weight', 'fc.bias'])


@pytest.mark.parametrize('name', ['gradaug_resnet18', 'gradaug_resnet20_cifar', 'gradaug_wide_resnet16_8'])
def test_models_are_marked_as_elastic_and_their_feature_extractors_too(name):
    assert is_elastic(timm.create_model(name))
    assert not is_elastic(timm.create_model(name.removeprefix('gradaug_')))
    features = timm.create_model(name, features_only=True, out_indices=(1, 2))
    assert is_elastic(features)
    assert [feature.shape[1] for feature in features(small_image(name))] == features.feature_info.channels()


@pytest.mark.parametrize('name', ['gradaug_resnet18', 'gradaug_resnet20_cifar', 'gradaug_pyramidnet110_a270'])
def test_unknown_arguments_are_refused(name):
    with torch.device('meta'), pytest.raises(TypeError, match='widht'):
        timm.create_model(name, widht=1)


def test_arguments_of_the_model_are_passed_on():
    model = timm.create_model(
        'gradaug_resnet18', num_classes=7, in_chans=1, global_pool='catavgmax', drop_path_rate=0.1)
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 7)
    assert model.fc.in_features == 1024
    assert model.layer4[-1].drop_path.drop_prob == pytest.approx(0.1)


def test_registration_warns_of_nothing_and_takes_no_time():
    code = ('import warnings, time, timm; warnings.simplefilter("error"); start = time.process_time(); '
            'import gradaug_timm.models; print(time.process_time() - start)')
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 0.5  # 0.03 where nothing else runs
