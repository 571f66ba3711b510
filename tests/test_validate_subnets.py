"""Sub-networks in evaluation: their BatchNorm statistics, and validate.py --width."""
import copy
import json

import pytest
import timm
import torch
from torch import nn

from gradaug_timm.elastic import Subnet, activate, extract, make_elastic, statistics
from gradaug_timm.evaluation import recalibrate
from gradaug_timm.evaluation.main import main

SUBNETS = [Subnet(0.5, 4), Subnet(0.7, 1), Subnet(0.5, 8, skipped=(1, 3))]


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = make_elastic(timm.create_model('gradaug_resnet20_cifar', num_classes=6, depth=14))
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 32, 32))
    return model


@pytest.fixture(scope='module')
def batches():
    generator = torch.Generator().manual_seed(1)
    scales_and_shifts = ((1, 0), (3, 1), (.5, -1))
    return [torch.randn(6, 3, 32, 32, generator=generator) * scale + shift for scale, shift in scales_and_shifts]


@torch.no_grad()
def measured_in_float64(dense, batches):
    """A plain network whose running statistics are those of all inputs of each BatchNorm, kept and taken at once."""
    inputs = {}

    def keep(module, given):
        inputs.setdefault(module, []).append(given[0].double())
    norms = [module for module in dense.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [module.register_forward_pre_hook(keep) for module in norms]
    dense.train()
    for batch in batches:
        dense(batch)
    for module, handle in zip(norms, handles):
        values = torch.cat(inputs[module]).movedim(1, 0).flatten(1)
        module.running_mean.copy_(values.mean(1))
        module.running_var.copy_(values.var(1))
        handle.remove()
    return dense.eval()


@pytest.mark.parametrize('subnet', SUBNETS)
@torch.no_grad()
def test_recalibration_gives_the_statistics_of_all_images_that_a_dense_network_sees(model, batches, subnet):
    model = copy.deepcopy(model).eval()
    oracle = measured_in_float64(extract(model, subnet), batches)
    recalibrate(model, subnet, batches)
    dense = extract(model, subnet).eval()
    for (name, buffer), other in zip(oracle.named_buffers(), dense.buffers()):
        if not name.endswith('num_batches_tracked'):
            torch.testing.assert_close(other, buffer, rtol=1e-4, atol=1e-5, msg=name)
    with activate(model, subnet):
        torch.testing.assert_close(model(batches[0]), oracle(batches[0]), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_recalibration_leaves_the_network_its_other_subnets_and_modes_alone(model, batches):
    model = copy.deepcopy(model).train()
    model.layer1.eval() if hasattr(model, 'layer1') else next(model.children()).eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recalibrate(model, Subnet(0.5, 4), batches)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert statistics(model, Subnet(0.5, 4)) and statistics(model, Subnet(0.5, 8)) is None
    assert not any(module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_recalibration_replaces_what_was_measured_before(model, batches):
    model = copy.deepcopy(model).eval()
    outputs = []
    for measured_on in (batches[:1], batches[1:]):
        recalibrate(model, SUBNETS[0], measured_on)
        with activate(model, SUBNETS[0]):
            outputs.append(model(batches[0]))
    assert not torch.allclose(*outputs, atol=1e-2)


def test_recalibration_without_a_batch_is_refused(model):
    model = copy.deepcopy(model)
    with pytest.raises(ValueError, match='at least one batch'):
        recalibrate(model, SUBNETS[0], [])
    assert statistics(model, SUBNETS[0]) is None


@pytest.fixture
def evaluate(image_folder, tmp_path, model, capsys):
    def run(*flags, name='gradaug_resnet20_cifar', state=None):
        torch.save(state or model.state_dict(), tmp_path / 'model.pth')
        main([
            str(image_folder), '--model', name, '--model-kwargs', 'depth=14', '--num-classes', '6',
            '--checkpoint', str(tmp_path / 'model.pth'), '--device', 'cpu', '-j', '0', '-b', '24', *map(str, flags)])
        return json.loads(capsys.readouterr().out.removeprefix('--result\n'))
    return run


def images_of(folder):
    dataset = timm.data.create_dataset('', root=folder, search_split=False)
    cfg = timm.get_pretrained_cfg('resnet20_cifar')
    dataset.transform = timm.data.create_transform((3, 32, 32), mean=cfg.mean, std=cfg.std, crop_pct=1.)
    images, labels = zip(*(dataset[i] for i in range(len(dataset))))
    return torch.stack(images), torch.tensor(labels)


def test_width_evaluates_the_subnet_recalibrated_on_training_images(evaluate, model, image_folder):
    train, _ = images_of(image_folder / 'train')  # 24 images: one batch, whatever its order
    oracle = measured_in_float64(extract(model, Subnet(0.5, 4)), [train])
    images, labels = images_of(image_folder / 'validation')
    for name in ('gradaug_resnet20_cifar', 'resnet20_cifar'):
        results = evaluate('--width', 0.5, '--divisor', 4, '--recalibration-batches', 1, name=name)
        assert results['loss'] == pytest.approx(nn.functional.cross_entropy(oracle(images), labels).item(), rel=1e-3)
        assert (results['width'], results['divisor']) == (0.5, 4)
        assert results['param_count'] == round(sum(p.numel() for p in oracle.parameters()) / 1e6, 2)


def test_without_recalibration_the_subnet_keeps_the_full_networks_statistics(evaluate, model, image_folder):
    images, labels = images_of(image_folder / 'validation')
    dense = extract(model, Subnet(0.5, 4)).eval()
    results = evaluate('--width', 0.5, '--divisor', 4, '--recalibration-batches', 0)
    assert results['loss'] == pytest.approx(nn.functional.cross_entropy(dense(images), labels).item(), rel=1e-3)


def test_width_one_is_the_full_network(evaluate):
    results, full = evaluate('--width', 1), evaluate()
    assert {key: results[key] for key in full} == full


def test_the_same_seed_gives_the_same_statistics(evaluate):
    flags = ('--width', 0.5, '-b', 8, '--recalibration-batches', 2)
    assert evaluate(*flags) == evaluate(*flags)
    assert evaluate(*flags)['loss'] != evaluate(*flags, '--seed', 1)['loss']


def test_a_subnet_composes_with_compilation_and_low_precision(evaluate):
    plain = evaluate('--width', 0.5, '--divisor', 4)
    for flags in (('--torchcompile', 'eager'), ('--channels-last',), ('--no-prefetcher',),
                  ('--amp', '--amp-dtype', 'bfloat16'), ('--model-dtype', 'bfloat16')):
        assert evaluate('--width', 0.5, '--divisor', 4, *flags)['loss'] == pytest.approx(plain['loss'], abs=0.1)
