"""Networks of every kind run as their sub-networks: forward, backward, masked, extracted."""
import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import timm
import torch
from processes import SERVER
from timm.models import (
    cait,
    convmixer,
    cspnet,
    densenet,
    dla,
    efficientformer,
    ghostnet,
    levit,
    mlp_mixer,
    nfnet,
    pvt_v2,
    res2net,
    resnest,
    sknet,
    swin_transformer_v2,
    vovnet,
    xcit,
)
from timm.models.resnet import ResNet

from gradaug_timm.coverage import Misfit, check_subnets, checks, modules, table
from gradaug_timm.coverage.__main__ import main
from gradaug_timm.coverage.checks import Finding, check_model
from gradaug_timm.coverage.modules import check_module, smallest, timm_modules
from gradaug_timm.elastic import Plan, Side, make_elastic, network
from gradaug_timm.elastic.network import elastic_state
from gradaug_timm.elastic.planning.replica import replica_of

SMALL = dict(num_classes=5)
STAGES = dict(layers=(1, 1, 1, 1), channels=(16, 32, 48, 64), **SMALL)

# What is special about each kind: concatenation, splits, tokens, windows, heads, standardised weights, ...
KINDS = {
    'depthwise, squeeze-excite': lambda: timm.create_model('test_efficientnet', **SMALL),
    'convolution and attention': lambda: timm.create_model('test_vit3', **SMALL),
    'gated convolution': lambda: timm.create_model('test_mambaout', **SMALL),
    'scaled standardised weights': lambda: timm.create_model('test_nfnet', **SMALL),
    'concatenation': lambda: densenet.DenseNet(growth_rate=8, block_config=(2, 2), **SMALL),
    'concatenation of layers': lambda: vovnet.VovNet(
        dict(stem_chs=[8, 8, 16], stage_conv_chs=[8, 12, 16, 16], stage_out_chs=[24, 32, 32, 48], layer_per_block=2,
             block_per_stage=[1, 1, 1, 2], residual=True, depthwise=False, attn='ese'), **SMALL),
    'tree of layers': lambda: dla.DLA([1, 1, 1, 2, 1, 1], [8, 8, 16, 24, 32, 40], **SMALL),
    'split and hierarchical sum': lambda: ResNet(
        res2net.Bottle2neck, base_width=24, block_args=dict(scale=4), **STAGES),
    'split and grouped': lambda: ResNet(
        res2net.Bottle2neck, base_width=16, cardinality=8, block_args=dict(scale=4), **STAGES),
    'selective kernels': lambda: ResNet(
        sknet.SelectiveKernelBasic, block_args=dict(sk_kwargs=dict(rd_ratio=1 / 8, rd_divisor=8, split_input=True)),
        **STAGES),
    'split attention': lambda: ResNet(
        resnest.ResNestBottleneck, base_width=32, block_args=dict(radix=2), **STAGES),
    'cross-stage partial': lambda: cspnet.CspNet(cspnet.CspModelCfg(
        stem=cspnet.CspStemCfg(out_chs=16, stride=2, pool=''),
        stages=cspnet.CspStagesCfg(depth=(1, 2), out_chs=(24, 32), stride=2, expand_ratio=1., bottle_ratio=0.5,
                                   block_ratio=0.5, cross_linear=True)), **SMALL),
    'ghost features': lambda: ghostnet.GhostNet([[[3, 16, 16, 0, 1]], [[3, 48, 24, 0.25, 2]]], width=1., **SMALL),
    'mixed tokens': lambda: mlp_mixer.MlpMixer(img_size=64, patch_size=16, num_blocks=2, embed_dim=32, **SMALL),
    'gated tokens': lambda: mlp_mixer.MlpMixer(
        img_size=64, patch_size=16, num_blocks=2, embed_dim=32, mlp_ratio=6,
        block_layer=mlp_mixer.SpatialGatingBlock, mlp_layer=mlp_mixer.GatedMlp, **SMALL),
    'affine tokens': lambda: mlp_mixer.MlpMixer(
        img_size=64, patch_size=16, num_blocks=2, embed_dim=32, mlp_ratio=4, block_layer=mlp_mixer.ResBlock,
        norm_layer=mlp_mixer.Affine, **SMALL),
    'convolutions alone': lambda: convmixer.ConvMixer(dim=24, depth=2, patch_size=4, **SMALL),
    'cross-covariance': lambda: xcit.Xcit(
        img_size=64, patch_size=16, embed_dim=48, depth=2, num_heads=4, eta=1., **SMALL),
    'talking heads': lambda: cait.Cait(
        img_size=64, embed_dim=48, depth=2, num_heads=4, init_values=1., **SMALL),
    'windows and position tables': lambda: swin_transformer_v2.SwinTransformerV2(
        img_size=64, window_size=4, embed_dim=24, depths=(2, 1), num_heads=(2, 4), **SMALL),
    'reduced keys': lambda: pvt_v2.PyramidVisionTransformerV2(
        depths=(1, 1, 1, 1), embed_dims=(16, 32, 48, 64), num_heads=(1, 2, 4, 4), **SMALL),
    'attention with BatchNorm': lambda: levit.Levit(
        img_size=128, embed_dim=(32, 48), key_dim=8, depth=(1, 1), num_heads=(2, 3), **SMALL),
    'attention biases': lambda: efficientformer.EfficientFormer(
        depths=(1, 1, 1, 2), embed_dims=(16, 24, 32, 48), num_vit=1, img_size=128, **SMALL),
    'normaliser-free': lambda: nfnet.NormFreeNet(
        nfnet.NfCfg(depths=(1, 1), channels=(24, 32), stem_type='3x3', attn_layer='se', attn_kwargs=dict(rd_ratio=0.5),
                    gamma_in_act=True), **SMALL),
}


SLOW = {'reduced keys', 'convolution and attention', 'attention biases', 'scaled standardised weights',
        'tree of layers', 'gated convolution', 'cross-covariance', 'split and hierarchical sum'}
assert SLOW < {*KINDS}


@pytest.mark.parametrize('kind', [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in KINDS])
def test_a_network_of_each_kind_runs_as_its_subnetworks(kind):
    torch.manual_seed(0)
    model = KINDS[kind]()
    plan = elastic_state(make_elastic(copy.deepcopy(model)))[1].plan
    assert plan.groups and not plan.frozen
    check_subnets(replica_of(model), plan)


@pytest.mark.parametrize('changed, reason', [
    ({'layer1.0.conv2.weight': 1}, 'it differs from the masked network at width 0.5'),  # reads what wasn't computed
    ({'layer1.0.conv1.weight': 0, 'layer1.0.conv2.weight': 1, 'layer1.0.bn1.weight': 0, 'layer1.0.bn1.bias': 0,
      'layer1.0.bn1.running_mean': 0, 'layer1.0.bn1.running_var': 0}, None),  # the last channels instead of the first
])
def test_the_check_finds_a_subnetwork_that_is_wrong(changed, reason):
    model = timm.create_model('test_resnet', **SMALL)
    plan = elastic_state(make_elastic(copy.deepcopy(model)))[1].plan
    sides = {name: list(sides) for name, sides in plan.tensors.items()}
    for name, dim in changed.items():
        sides[name][dim] = Side(sides[name][dim].group, sides[name][dim].rank[::-1].copy())
    wrong = replace(plan, tensors={name: tuple(dims) for name, dims in sides.items()})
    with pytest.raises(Misfit, match=reason) if reason else nullcontext():
        check_subnets(replica_of(model), wrong)


@pytest.mark.parametrize('training', [False, True])
def test_the_check_finds_gradients_that_are_wrong(training, monkeypatch):
    model = timm.create_model('test_resnet', **SMALL)
    plan = elastic_state(make_elastic(copy.deepcopy(model)))[1].plan
    check, name = checks._check_gradients, 'layer1.0.conv1.weight'

    def with_hook(model, dense, *args):
        handle = model.get_parameter(name).register_hook(lambda gradient: gradient + (model.training == training))
        check(model, dense, *args)
        handle.remove()

    monkeypatch.setattr(checks, '_check_gradients', with_hook)
    with pytest.raises(Misfit, match=f'{name} has gradients outside of width 0.5'):
        check_subnets(replica_of(model), plan)


def test_a_network_without_anything_to_drop_is_no_success(monkeypatch):
    monkeypatch.setattr(network, '_plan', lambda _: Plan((), {}))
    finding = check_model('resnet', 'test_resnet')
    assert finding.reason == 'sub-networks keep all channels of the network'


def test_the_table_tells_what_was_found(capsys, monkeypatch):
    monkeypatch.setattr('gradaug_timm.coverage.__main__.get_context', lambda _: SERVER)
    main(['starnet'])
    page = capsys.readouterr().out
    assert '1 of 1 modules; in 1 of them' in page
    assert 'Written by `python -m gradaug_timm.coverage starnet` with' in page
    row = next(line for line in page.splitlines() if line.startswith('| starnet |'))
    assert row.split(' | ')[1] == 'starnet_s050' and 55 < int(row.split(' | ')[2].rstrip('%')) < 65


def test_a_refused_network_is_in_the_table_with_the_reason():
    page = table([Finding('lost', 'lost_net', reason='it has no channels')], 'command')
    assert '0 of 1 modules' in page and '| lost | lost_net | not supported: it has no channels |' in page


@pytest.mark.parametrize('arguments, word', [
    (['resnets'], 'resnets'), (['resnet', '--jobs', '0'], "'0'"), (['resnet', '--output', 'nowhere/x.md'], 'nowhere'),
    (['resnet', '--output', '.'], 'not a folder')])
def test_bad_arguments_are_refused_before_anything_is_checked(arguments, word, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert word in capsys.readouterr().err


def test_a_check_that_fails_leaves_a_row_with_the_reason(monkeypatch):
    def fail(*_):
        raise RuntimeError('out of\nluck')
    monkeypatch.setenv('GRADAUG_CACHE_DIR', '')  # as it is set for a process of its own; put back after this test
    monkeypatch.setattr(modules, 'check_model', fail)
    monkeypatch.setattr(modules, 'smallest', lambda module: f'{module}_s')
    assert check_module('lost') == Finding('lost', 'lost_s', reason='RuntimeError: out of luck')


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize('module', timm_modules())
def test_the_smallest_network_of_each_module_runs_as_its_subnetworks(module):
    finding = check_model(module, smallest(module))
    assert not finding.reason
