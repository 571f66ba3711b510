"""`gradaug_*` in timm's registry: the networks, keys, weights and configurations of timm."""
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from processes import run_script
from timm.models import get_arch_pretrained_cfgs

import gradaug_timm  # noqa: F401  (registers the models)
from gradaug_timm.elastic import is_elastic

CIFAR = ('resnet20_cifar', 'resnet56_cifar', 'resnet110_cifar', 'wide_resnet16_8', 'wide_resnet28_10',
         'pyramidnet110_a270', 'pyramidnet200_a240')
MODULES = {path.stem for path in Path(timm.models.__file__).parent.glob('[!_]*.py')}  # timm's own, not the registry's


def timm_architectures() -> list[str]:
    return timm.list_models(module=MODULES)


def pairs_on_meta(name: str, **kwargs) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The elastic network called `name` and timm's, without memory for their weights."""
    with torch.device('meta'):
        return timm.create_model(f'gradaug_{name}', **kwargs), timm.create_model(name, **kwargs)


def small_image(name: str) -> torch.Tensor:
    return torch.randn(2, 3, 32 if name in CIFAR else 64, 32 if name in CIFAR else 64)


def test_every_architecture_of_timm_and_every_cifar_network_has_its_elastic_twin():
    twins = {f'gradaug_{name}' for name in {*timm_architectures(), *CIFAR}}
    assert set(timm.list_models('gradaug_*')) == twins
    assert len(twins) > 1000
    assert all(timm.is_model(name) for name in twins)


def test_timms_own_lists_of_modules_stay_as_they_are():
    ours = {*timm.list_models('gradaug_*'), *CIFAR}
    assert not [name for module in MODULES for name in timm.list_models(module=module) if name in ours]
    assert timm.list_models(module='gradaug_models') == timm.list_models('gradaug_*')


def test_registered_configurations_point_at_timms_weights():
    for name in timm.list_models('gradaug_*'):
        ours = get_arch_pretrained_cfgs(name)
        timms = get_arch_pretrained_cfgs(name.removeprefix('gradaug_'))
        assert timms and list(ours) == [f'gradaug_{name_and_tag}' for name_and_tag in timms]
        for ours_cfg, timms_cfg in zip(ours.values(), timms.values()):
            assert ours_cfg == replace(timms_cfg, architecture=name)
        default = timm.get_pretrained_cfg(name)
        assert default.tag == timm.get_pretrained_cfg(name.removeprefix('gradaug_')).tag


def test_the_same_names_and_tags_are_pretrained():
    ours = timm.list_models('gradaug_*', include_tags=True)
    assert [name for name in ours if timm.models.is_model_pretrained(name)] == timm.list_pretrained('gradaug_*')
    assert len(timm.list_pretrained('gradaug_*')) > 1000
    for name in (*timm.list_models('gradaug_*'), *ours):
        is_pretrained = timm.models.is_model_pretrained(name.removeprefix('gradaug_'))
        assert timm.models.is_model_pretrained(name) == is_pretrained, name


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


@pytest.mark.parametrize('name', [
    'resnet18', 'resnet50', 'seresnet18', 'resnet26t', 'resnet20_cifar', 'wide_resnet16_8', 'pyramidnet110_a270',
    *(pytest.param(name, marks=pytest.mark.slow) for name in ('resnext50_32x4d', 'resnetaa50'))])
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


@pytest.mark.parametrize('name', [
    'convnextv2_atto.fcmae', 'vit_tiny_patch16_224', 'vit_base_patch16_siglip_224', 'swin_tiny_patch4_window7_224',
    'mixer_s32_224', 'efficientnet_b0', 'densenet121', 'inception_v3.tv_in1k', 'levit_128s',
    'vit_base_patch16_clip_quickgelu_224', 'resnetv2_50x1_bit', 'test_vit',
])
def test_networks_of_every_kind_are_those_of_timm(name):
    elastic, plain = pairs_on_meta(name, num_classes=7)
    assert is_elastic(elastic) and not is_elastic(plain)
    assert type(elastic) is type(plain)
    assert {key: value.shape for key, value in elastic.state_dict().items()} == {
        key: value.shape for key, value in plain.state_dict().items()}
    variant = f'gradaug_{name.partition(".")[0]}'
    assert elastic.pretrained_cfg == elastic.default_cfg == {**plain.pretrained_cfg, 'architecture': variant}
    assert elastic._model_args == plain._model_args == {'num_classes': 7}


@pytest.mark.parametrize('name', ['convnext_atto', 'efficientnet_b0', 'hrnet_w18_small', 'vit_tiny_patch16_224',
                                  'mobilenetv3_small_050', 'swin_tiny_patch4_window7_224'])
def test_feature_extractors_are_those_of_timm(name):
    elastic, plain = pairs_on_meta(name, features_only=True)
    assert is_elastic(elastic)
    assert type(elastic) is type(plain)
    assert elastic.feature_info.channels() == plain.feature_info.channels()
    assert elastic.default_cfg['architecture'] == elastic.pretrained_cfg['architecture'] == f'gradaug_{name}'


def test_a_tag_that_changes_how_timm_loads_weights_does_so_here(tmp_path):
    weights = timm.create_model('convnextv2_atto', depths=(1, 1, 1, 1)).state_dict()
    body = {key: value for key, value in weights.items() if not key.startswith('head.')}
    safetensors.torch.save_file(body, tmp_path / 'model.safetensors')
    model = timm.create_model(
        'gradaug_convnextv2_atto.fcmae', pretrained=True, depths=(1, 1, 1, 1), num_classes=0,
        pretrained_cfg_overlay=dict(file=str(tmp_path / 'model.safetensors')))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in body.items())


def test_a_configuration_of_the_user_is_taken():
    cfg = dict(num_classes=3, input_size=(3, 32, 32), url='', mean=(0.5, 0.5, 0.5))
    elastic, plain = pairs_on_meta('resnet18', pretrained_cfg=cfg, pretrained_cfg_overlay=dict(crop_pct=1.0))
    assert elastic.pretrained_cfg == {**plain.pretrained_cfg, 'architecture': 'gradaug_resnet18'}
    assert (elastic.num_classes, elastic.pretrained_cfg['crop_pct']) == (3, 1.0)


@pytest.mark.slow
def test_every_network_is_created_and_knows_its_name():
    for name in timm.list_models('gradaug_*'):
        with torch.device('meta'):
            model = timm.create_model(name)
        assert is_elastic(model), name
        assert model.pretrained_cfg['architecture'] == name


# Times the module that registers, without what it imports from torch and timm and from us, and without a collection of
# all garbage, which falls into it or not and takes longer than it.
TIMED_IMPORT = """
import gc, importlib.machinery, time, warnings
import timm
gc.disable()
warnings.simplefilter('error')
Loader = importlib.machinery.SourceFileLoader
execute = Loader.exec_module

def timed(self, module):
    start = time.process_time()
    execute(self, module)
    if module.__name__ == 'gradaug_timm.models.gradaug_models':
        print(time.process_time() - start)

Loader.exec_module = timed
import gradaug_timm
"""


def registration_seconds(script: Path) -> float:
    result = run_script(script)
    assert result.returncode == 0, result.stderr
    return float(result.stdout)


def test_registration_warns_of_nothing_and_takes_less_than_a_tenth_of_a_second(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(TIMED_IMPORT)
    assert any(registration_seconds(script) < 0.1 for _ in range(5))  # 0.03 to 0.05 on an idle core
