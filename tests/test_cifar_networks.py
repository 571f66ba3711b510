"""The CIFAR networks against the papers' figures and hand-written forward passes."""
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import gradaug_timm  # noqa: F401  (registers the models)
from gradaug_timm.models import CifarResNet, PyramidNet, WideResNet
from gradaug_timm.models.cifar_pyramidnet import pyramid_channels

# Parameters in millions, as published (arXiv 1512.03385, 1605.07146, 1610.02915); PyramidNet-110 has 28.5 by our count.
PAPERS = {
    'resnet20_cifar': 0.27, 'resnet56_cifar': 0.85, 'resnet110_cifar': 1.7,
    'wide_resnet16_8': 11.0, 'wide_resnet28_10': 36.5,
    'pyramidnet110_a270': 28.3, 'pyramidnet200_a240': 26.8,
}
TINY = {
    'resnet': lambda **kwargs: CifarResNet(depth=8, num_classes=10, **kwargs),
    'wide resnet': lambda **kwargs: WideResNet(depth=16, widen_factor=2, num_classes=10, **kwargs),
    'pyramidnet': lambda **kwargs: PyramidNet(depth=14, alpha=10, num_classes=10, **kwargs),
    'pyramidnet, bottleneck': lambda **kwargs: PyramidNet(
        depth=20, alpha=10, bottleneck=True, num_classes=10, **kwargs),
}
every_tiny = pytest.mark.parametrize('make', TINY.values(), ids=TINY.keys())


def randomised(model: nn.Module) -> nn.Module:
    """The network in evaluation mode, with norms that differ by channel."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    return model.eval()


class Oracle:
    """Forward passes written out from the papers, on a state dict."""

    def __init__(self, model: nn.Module):
        self.state = model.state_dict()

    def conv(self, name, x, stride=1):
        weight = self.state[f'{name}.weight']
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, name, x):
        mean, var, weight, bias = (
            self.state[f'{name}.{key}'].view(-1, 1, 1) for key in ('running_mean', 'running_var', 'weight', 'bias'))
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def blocks(self):
        """Names and strides of the blocks, in order."""
        names = sorted({'.'.join(key.split('.')[:2]) for key in self.state if key.startswith('layer')},
                       key=lambda name: [int(part) for part in name.removeprefix('layer').split('.')])
        return [(name, 2 if name in ('layer2.0', 'layer3.0') else 1) for name in names]

    def classify(self, x):
        return x.mean((2, 3)) @ self.state['head.fc.weight'].T + self.state['head.fc.bias']

    def resnet(self, x):
        x = self.norm('bn1', self.conv('conv1', x)).relu()
        for name, stride in self.blocks():
            y = self.norm(f'{name}.bn1', self.conv(f'{name}.conv1', x, stride)).relu()
            y = self.norm(f'{name}.bn2', self.conv(f'{name}.conv2', y))
            if f'{name}.downsample.0.weight' in self.state:
                x = self.norm(f'{name}.downsample.1', self.conv(f'{name}.downsample.0', x, stride))
            x = (x + y).relu()
        return self.classify(x)

    def wide_resnet(self, x):
        x = self.conv('conv1', x)
        for name, stride in self.blocks():
            activated = self.norm(f'{name}.norm1', x).relu()
            y = self.norm(f'{name}.norm2', self.conv(f'{name}.conv1', activated, stride)).relu()
            y = self.conv(f'{name}.conv2', y)
            projects = f'{name}.downsample.weight' in self.state
            x = y + (self.conv(f'{name}.downsample', activated, stride) if projects else x)
        return self.classify(self.norm('norm', x).relu())

    def pyramidnet(self, x):
        x = self.norm('bn1', self.conv('conv1', x))
        for name, stride in self.blocks():
            bottleneck = f'{name}.conv3.weight' in self.state
            y = self.conv(f'{name}.conv1', self.norm(f'{name}.norm1', x), 1 if bottleneck else stride)
            y = self.conv(f'{name}.conv2', self.norm(f'{name}.norm2', y).relu(), stride if bottleneck else 1)
            if bottleneck:
                y = self.conv(f'{name}.conv3', self.norm(f'{name}.norm3', y).relu())
            y = self.norm(f'{name}.norm4' if bottleneck else f'{name}.norm3', y)
            x = averaged(x, stride)
            x = y + torch.cat([x, torch.zeros(len(x), y.shape[1] - x.shape[1], *x.shape[2:])], 1)
        return self.classify(self.norm('norm', x).relu())


def averaged(x, stride):
    """Means of windows of stride x stride pixels; those at the right and lower edge may be smaller."""
    rows, columns = (math.ceil(size / stride) for size in x.shape[2:])
    return torch.stack([
        torch.stack([
            x[:, :, i * stride:(i + 1) * stride, j * stride:(j + 1) * stride].mean((2, 3)) for j in range(columns)
        ], -1) for i in range(rows)
    ], -2)


@pytest.mark.parametrize('name, millions', PAPERS.items())
def test_parameter_counts_are_those_of_the_papers(name, millions):
    with torch.device('meta'):
        model = timm.create_model(name, num_classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize('size', [32, 28, 24, 33, 19])
@every_tiny
def test_any_image_size_is_taken(make, size):
    assert make()(torch.randn(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize('size', [32, 21])
@pytest.mark.parametrize('kind, forward', [
    ('resnet', Oracle.resnet), ('wide resnet', Oracle.wide_resnet),
    ('pyramidnet', Oracle.pyramidnet), ('pyramidnet, bottleneck', Oracle.pyramidnet),
])
@torch.no_grad()
def test_networks_compute_what_the_papers_say(kind, forward, size):
    torch.manual_seed(0)
    model = randomised(TINY[kind]())
    x = torch.randn(2, 3, size, size)
    torch.testing.assert_close(model(x), forward(Oracle(model), x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', ['wide resnet', 'pyramidnet', 'pyramidnet, bottleneck'])
@torch.no_grad()
def test_the_shortcut_is_what_a_block_gives_when_its_branch_adds_nothing(kind):
    torch.manual_seed(0)
    model = randomised(TINY[kind]())
    x = torch.randn(2, 3, 17, 17)
    x = model.bn1(model.conv1(x))
    for block in (block for stage in model.stages for block in stage):
        shortcut = block.shortcut(x.clone())
        assert not torch.allclose(block(x), shortcut)
        convs = [module for name, module in block.named_modules() if name.startswith('conv')]
        nn.init.zeros_(convs[-1].weight)
        for norm in (module for name, module in block.named_modules() if name in ('norm3', 'norm4')):
            nn.init.zeros_(norm.running_mean)
            nn.init.zeros_(norm.bias)
        x = block(x)
        torch.testing.assert_close(x, shortcut)


def test_pyramidnet_widens_by_equal_steps():
    widths = pyramid_channels(18, 270, 1)
    assert [width for stage in widths for width in stage] == list(range(21, 287, 5))
    assert pyramid_channels(22, 240, 4)[-1][-1] == 4 * (16 + 240)
    assert pyramid_channels(1, 10, 1) == [[19], [23], [26]]  # 16 + 3.33, 6.67, 10


def test_convolutions_start_as_in_the_original_code():
    torch.manual_seed(0)
    for module in WideResNet(depth=10, widen_factor=4).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        elif isinstance(module, nn.Linear):
            assert not module.bias.any()


@every_tiny
def test_residual_branches_start_at_zero_only_on_request(make):
    x = torch.randn(4, 3, 16, 16)

    def branches(model):
        model.eval()
        x_in, outputs = model.act1(model.bn1(model.conv1(x))), []
        for block in (block for stage in model.stages for block in stage):
            last = [m for name, m in block.named_children() if name.startswith(('conv', 'norm', 'bn'))][-1]
            last.register_forward_hook(lambda _, __, output: outputs.append(output.abs().max().item()))
            x_in = block(x_in)
        return outputs

    assert min(branches(make())) > 0
    assert max(branches(make(zero_init_last=True))) == 0


def test_stochastic_depth_grows_linearly_over_the_blocks():
    model = CifarResNet(depth=20, drop_path_rate=0.4)
    rates = [getattr(block.drop_path, 'drop_prob', 0.) for stage in model.stages for block in stage]
    assert rates == pytest.approx([0.05 * index for index in range(9)])


def test_dropout_acts_between_the_convolutions_of_a_wide_block():
    torch.manual_seed(0)
    model = WideResNet(depth=10, widen_factor=1, block_drop_rate=0.5)
    x = torch.randn(2, 3, 16, 16)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@every_tiny
@torch.no_grad()
def test_the_last_intermediate_with_norm_is_the_final_feature(make):
    model = randomised(make())
    x = torch.randn(1, 3, 32, 32)
    final, features = model.forward_intermediates(x, norm=True)
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (info['num_chs'], 32 // info['reduction'], 32 // info['reduction']) for info in model.feature_info]
    assert torch.equal(final, model.forward_features(x))
    assert torch.equal(features[-1], final)


@pytest.mark.parametrize('global_pool, factor', [('avg', 1), ('max', 1), ('catavgmax', 2)])
def test_reset_classifier_follows_the_pooling(global_pool, factor):
    model = CifarResNet(depth=8)
    model.reset_classifier(7, global_pool)
    assert model.get_classifier().weight.shape == (7, 64 * factor)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert model.head_hidden_size == 64 * factor


@every_tiny
def test_checkpointing_changes_no_gradient(make):
    torch.manual_seed(0)
    model = make()
    x = torch.randn(2, 3, 16, 16)
    plain = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    model.set_grad_checkpointing()
    for a, b in zip(plain, torch.autograd.grad(model(x).square().sum(), list(model.parameters()))):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('name', PAPERS)
def test_configurations_are_for_cifar_100(name):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    assert config['input_size'] == (3, 32, 32) and config['crop_pct'] == 1.0
    assert config['mean'] == pytest.approx((0.4914, 0.4824, 0.4467), abs=1e-4)
    assert config['std'] == pytest.approx((0.2471, 0.2435, 0.2616), abs=1e-4)
    with torch.device('meta'):
        assert timm.create_model(name).num_classes == 100
        assert timm.create_model(name, num_classes=10, in_chans=1).get_classifier().out_features == 10


@pytest.mark.parametrize('name', PAPERS)
def test_unknown_arguments_are_refused(name):
    with torch.device('meta'), pytest.raises(TypeError, match='widht'):
        timm.create_model(name, widht=1)


@pytest.mark.parametrize('make, allowed', [
    (lambda: CifarResNet(depth=19), '6n \\+ 2'),
    (lambda: WideResNet(depth=20), '6n \\+ 4'),
    (lambda: PyramidNet(depth=109), '6n \\+ 2'),
    (lambda: PyramidNet(depth=108, bottleneck=True), '9n \\+ 2'),
])
def test_a_depth_that_no_network_has_is_refused(make, allowed):
    with pytest.raises(ValueError, match=f'depth=\\d+.*{allowed}'):
        make()
