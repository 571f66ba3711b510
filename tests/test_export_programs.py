"""`python -m gradaug_timm.export --onnx --torch-export`: networks without Python."""
import json
import zipfile

import onnxruntime
import pytest
import timm
import torch
from export_helpers import SIZE, images, logits, refusal, save_weights

from gradaug_timm import Subnet, load_extracted, make_elastic, save_extracted
from gradaug_timm.cli import one_line
from gradaug_timm.export import arguments, programs
from gradaug_timm.export.main import main
from gradaug_timm.models.gradaug_models import PREFIX

MODEL = ['-m', f'{PREFIX}test_resnet', '--num-classes', '5', '--img-size', str(SIZE)]


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp('weights') / 'weights.pth')


def run_onnx(path, images):
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    output, = session.run(['logits'], {'images': images.numpy()})
    return torch.from_numpy(output)


def test_programs_take_batches_of_any_length(weights, tmp_path, capsys):
    onnx, exported = tmp_path / 'net.onnx', tmp_path / 'net.pt2'
    names = ['one', 'zwölf', '三', 'a, "b"', '5']
    (tmp_path / 'names.txt').write_text('\n'.join(names), encoding='utf-8-sig')  # as editors on Windows write it
    main([str(weights), *MODEL, '--onnx', str(onnx), '--torch-export', str(exported),
          '--label-names', str(tmp_path / 'names.txt')])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and all('outputs differ by ' in line for line in printed)
    assert 'takes images of Nx3x64x64, normalised by mean 0.5 0.5 0.5' in printed[0]
    session = onnxruntime.InferenceSession(onnx, providers=['CPUExecutionProvider'])
    assert session.get_inputs()[0].shape == ['batch', 3, SIZE, SIZE] and session.get_outputs()[0].shape == ['batch', 5]
    with zipfile.ZipFile(exported) as program:
        contents = [onnx.read_bytes(), *map(program.read, program.namelist())]
    for path in (b'site-packages', b'gradaug_timm/', str(tmp_path).encode()):  # folders of this machine
        assert not any(path in content for content in contents), path
    assert json.loads(session.get_modelmeta().custom_metadata_map['class_names']) == names
    extra = {'class_names.json': ''}
    loaded = torch.export.load(exported, extra_files=extra).module()
    assert json.loads(extra['class_names.json']) == names
    for count in (1, 5):
        expected = logits(torch.load(weights), count, num_classes=5)
        torch.testing.assert_close(loaded(images(count)), expected)
        torch.testing.assert_close(run_onnx(onnx, images(count)), expected, rtol=1e-4, atol=1e-4)


def test_a_batch_size_may_be_fixed(weights, tmp_path):
    main([str(weights), *MODEL, '--onnx', str(tmp_path / 'net.onnx'), '--batch-size', '1'])
    session = onnxruntime.InferenceSession(tmp_path / 'net.onnx')
    assert session.get_inputs()[0].shape == [1, 3, SIZE, SIZE]
    assert session.get_modelmeta().custom_metadata_map == {}  # the names of the classes are not known


def test_an_extracted_network_becomes_a_program_and_no_folder(weights, tmp_path, capsys):
    model = timm.create_model(f'{PREFIX}test_resnet', num_classes=5)
    model.load_state_dict(torch.load(weights))
    small, onnx = tmp_path / 'small.safetensors', tmp_path / 'small.onnx'
    save_extracted(make_elastic(model), Subnet(0.5), small, class_names=list('abcde'))
    main([str(small), '--onnx', str(onnx)])
    metadata = onnxruntime.InferenceSession(onnx).get_modelmeta().custom_metadata_map
    assert json.loads(metadata['class_names']) == ['a', 'b', 'c', 'd', 'e']
    with torch.no_grad():
        expected = load_extracted(small)(images(3, 160))
    torch.testing.assert_close(run_onnx(onnx, images(3, 160)), expected, rtol=1e-4, atol=1e-4)
    assert 'narrower than any architecture of timm' in refusal(capsys, small, '--to', tmp_path / 'net')
    assert 'describes its network itself' in refusal(
        capsys, small, '--torch-export', tmp_path / 'x.pt2', '-m', 'resnet18')


@pytest.mark.slow
def test_a_program_that_computes_something_else_is_not_left_behind(weights, tmp_path, capsys, monkeypatch):
    run = programs._compared
    monkeypatch.setattr(
        programs, '_compared', lambda network, *rest: run(lambda images: network(images) + 1, *rest))
    error = refusal(capsys, weights, *MODEL, '--onnx', tmp_path / 'net.onnx')
    assert 'net.onnx is not written: its outputs differ from the checkpoint\'s by' in error
    assert list(tmp_path.iterdir()) == []


def test_programs_are_not_overwritten_without_the_flag(weights, tmp_path, capsys):
    (tmp_path / 'net.onnx').write_text('mine')
    assert 'net.onnx already exists' in refusal(capsys, weights, *MODEL, '--onnx', tmp_path / 'net.onnx')
    assert (tmp_path / 'net.onnx').read_text() == 'mine'


def test_missing_packages_are_told_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('gradaug_timm.export.arguments.ONNX_PACKAGES', ('onnx', 'no_such_package'))
    error = refusal(capsys, tmp_path / 'none.pth', '--onnx', tmp_path / 'net.onnx')
    assert '--onnx needs no_such_package: pip install "gradaug_timm[export]"' in error


# One of each family with caches of relative positions, or with buffers that are computed in the first pass.
ATTENTION = {
    'beit_base_patch16_224': dict(depth=1, embed_dim=32, num_heads=2, img_size=32),
    'maxvit_pico_rw_256': dict(depths=(1,), embed_dim=(32,), img_size=64, stem_width=16),
    'vit_relpos_small_patch16_224': dict(depth=1, embed_dim=32, num_heads=2, img_size=32),
    'swin_tiny_patch4_window7_224': dict(depths=(1, 1), embed_dim=16, num_heads=(1, 2), img_size=56),
    'swinv2_tiny_window8_256': dict(depths=(1, 1), embed_dim=16, num_heads=(1, 2), img_size=64),
    'eva02_tiny_patch14_224': dict(depth=1, img_size=28),
    'levit_128s': {}, 'tiny_vit_5m_224': {}, 'efficientformer_l1': {}, 'efficientvit_m0': {},
}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=pytest.mark.slow if name != 'beit_base_patch16_224' else ()) for name in ATTENTION])
def test_networks_that_cache_positions_become_onnx(name, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, **ATTENTION[name]).eval()
    side = ATTENTION[name].get('img_size', 224)
    program = programs.trace(network, (3, side, side), None)
    assert programs.write_onnx(program, str(tmp_path / 'net.onnx'), network, batch_size=None) < 1e-5


def test_the_cause_of_a_failed_export_is_shown_whole_and_without_codes_of_the_terminal(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        try:
            raise RuntimeError('the cause ' + 'x' * 400 + ' ends')
        except RuntimeError as error:
            raise ValueError('\x1b[31mFailed\x1b[0m: step 1/3 \n' + 'instructions ' * 50) from error
    network = torch.nn.Linear(3, 2)
    program = torch.export.export(network, (torch.zeros(2, 3),))
    monkeypatch.setattr(torch.onnx, 'export', fail)
    with pytest.raises(ValueError) as raised:
        programs.write_onnx(program, str(tmp_path / 'net.onnx'), network, batch_size=2)
    text = str(raised.value)
    assert text.endswith('RuntimeError: the cause ' + 'x' * 400 + ' ends') and '\n' not in text
    assert one_line(ValueError('\x1b[31mred\x1b[0m\n\ttext\x07')) == 'red text'


def test_a_torch_whose_exporter_fails_is_named_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.6.0')
    error = refusal(capsys, tmp_path / 'none.pth', '--onnx', tmp_path / 'net.onnx')
    assert '--onnx: the exporter of torch 2.6.0 fails with onnxscript' in error and 'install "onnxscript<0.3"' in error
    monkeypatch.setattr(arguments, 'version', {'onnxscript': '0.2.7', 'onnx': '1.17.0'}.get)
    assert 'onnxscript' not in refusal(capsys, tmp_path / 'none.pth', '--onnx', tmp_path / 'net.onnx')
