"""Extracted networks exported by torch.export and ONNX have the outputs of the sub-network."""
import onnxruntime
import pytest
import timm
import torch
from narrow_networks import randomised

from gradaug_timm import Subnet, activate, load_extracted, make_elastic, save_extracted

NETWORKS = {
    'test_resnet': (64, Subnet(0.5, 8, skipped=(1,))),
    'test_vit': (160, Subnet(0.75)),
    'test_convnext': (64, Subnet(0.5)),
}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=pytest.mark.slow if name != 'test_resnet' else ()) for name in NETWORKS])
def test_export_and_onnx_give_the_outputs_of_the_subnetwork(name, tmp_path):
    side, subnet = NETWORKS[name]
    torch.manual_seed(0)
    model = make_elastic(randomised(timm.create_model(f'gradaug_{name}', num_classes=5))).eval()
    save_extracted(model, subnet, tmp_path / 'small.safetensors')
    network = load_extracted(tmp_path / 'small.safetensors')
    images = torch.randn(2, 3, side, side)
    with torch.no_grad(), activate(model, subnet):
        expected = model(images)

    exported = torch.export.export(network, (images,))
    torch.testing.assert_close(exported.module()(images), expected)

    torch.onnx.export(exported, (images,), tmp_path / 'small.onnx', dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / 'small.onnx', providers=['CPUExecutionProvider'])
    output, = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-4, atol=1e-5)
