"""Networks of their own input size, however small, and of any number of channels can run as sub-networks."""
import pytest
import timm
import torch
from timm.models.mlp_mixer import MlpMixer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VisionTransformer

from gradaug_timm import Subnet, activate, extract, load_extracted, make_elastic, multiply_adds, save_extracted
from gradaug_timm.elastic.planning.replica import probe_shape

SUBNET = Subnet(0.5, divisor=4)
VIT = dict(depth=1, embed_dim=48, num_heads=3, num_classes=5)


def own_size(name: str, shape: tuple[int, int, int], **kwargs):
    """A network whose metadata name the shape of its images, as those of an extract or an exported folder do."""
    torch.manual_seed(0)
    network = timm.create_model(name, img_size=shape[1:], in_chans=shape[0], **kwargs).eval()
    network.pretrained_cfg = network.default_cfg = {**network.pretrained_cfg, 'input_size': shape}
    return network


@pytest.mark.parametrize(('shape', 'patch'), [
    ((3, 32, 32), 4), ((1, 28, 28), 7),
    pytest.param((3, 16, 16), 4, marks=pytest.mark.slow), pytest.param((3, 64, 32), 8, marks=pytest.mark.slow),
    pytest.param((2, 100, 100), 10, marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_vit_runs_as_subnetworks_at_its_own_size(shape, patch, tmp_path):
    kwargs = dict(patch_size=patch, **VIT)
    model, x = make_elastic(own_size('vit_tiny_patch16_224', shape, **kwargs)), torch.randn(2, *shape)
    with activate(model, SUBNET):
        active = model(x)
    save_extracted(model, SUBNET, tmp_path / 'small.safetensors', model_kwargs=dict(kwargs, img_size=shape[1:]))
    opened = load_extracted(tmp_path / 'small.safetensors')
    torch.testing.assert_close(opened(x), active)
    assert probe_shape(opened) == shape


def test_images_for_probing_have_the_own_size_and_channels_of_a_network():
    mixer = MlpMixer(img_size=(32, 16), patch_size=8, num_blocks=1, embed_dim=32).eval()
    assert probe_shape(mixer) == (3, 32, 16)
    swin = dict(depths=(1, 1), embed_dim=24, num_heads=(1, 2))
    assert probe_shape(own_size('swin_tiny_patch4_window7_224', (4, 56, 112), **swin)) == (4, 56, 112)
    assert probe_shape(timm.create_model('cs3darknet_focus_s', in_chans=1).eval()) == (1, 64, 64)  # its layer sees 4
    torchvisions = VisionTransformer(32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32)
    assert probe_shape(torchvisions.eval()) == (3, 32, 32)


@pytest.mark.parametrize('name, kwargs', [
    ('resnet20_cifar', dict(depth=8)), ('test_vit', {}), ('test_convnext', {}), ('test_efficientnet', {}),
    ('swin_tiny_patch4_window7_224', dict(depths=(1, 1), embed_dim=24, num_heads=(1, 2))),
    ('cait_xxs24_224', dict(depth=1, embed_dim=48, num_heads=3))])
def test_the_cost_of_a_subnetwork_is_that_of_its_extract_by_the_counter_of_torch(name, kwargs):
    model = make_elastic(timm.create_model(name, num_classes=5, **kwargs)).eval()
    dense, shape = extract(model, SUBNET), probe_shape(model)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # others it does not count
        dense(torch.zeros(1, *shape))
    assert multiply_adds(model, SUBNET, shape) == counter.get_total_flops() // 2 < multiply_adds(model, None, shape)
    with activate(model, SUBNET):
        assert multiply_adds(model, input_size=shape) == multiply_adds(dense, input_size=shape)
