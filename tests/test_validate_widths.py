"""validate.py --width with several widths: results, table, and the batches that are read for them."""
import csv
import json
import weakref

import pytest
import timm
import torch
from test_validate import PixelsWithLabels, read_images
from test_validate_subnets import measured_in_float64
from torch import nn

from gradaug_timm.data.image_sets import Images
from gradaug_timm.elastic import Subnet, extract, make_elastic, statistics
from gradaug_timm.evaluation import recalibrate, recalibrate_all
from gradaug_timm.evaluation.main import main
from gradaug_timm.upstream import recompile_limit

MODEL = 'gradaug_resnet20_cifar'
WIDTHS = (1, 0.75, 0.5)


def network(**kwargs):
    """A small elastic network with statistics of its own, in evaluation mode."""
    torch.manual_seed(0)
    model = make_elastic(timm.create_model(MODEL, num_classes=6, depth=8, **kwargs))
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 32, 32))
    return model.eval()


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'model.pth'
    torch.save(network().state_dict(), path)
    return path


@pytest.fixture
def evaluate(image_folder, checkpoint, capsys):
    """Runs validate.py; its table, as lists of words, and its results."""
    def run(*flags, data=image_folder, checkpoint=checkpoint):
        main([
            '--data-dir', str(data), '--model', MODEL, '--model-kwargs', 'depth=8', '--checkpoint', str(checkpoint),
            '--num-classes', '6', '--device', 'cpu', '-j', '0', '-b', '24', '--divisor', '4', *map(str, flags)])
        table, results = capsys.readouterr().out.split('--result\n')
        return [line.split() for line in table.splitlines() if line], json.loads(results)
    return run


def multiply_adds_of(dense) -> int:
    """Multiply-adds for an image of 32 px, counted from the shapes of weights and outputs."""
    total = 0

    def add(module, _, output):
        nonlocal total
        total += module.weight[0].numel() * output[0].numel()

    layers = [module for module in dense.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(add) for layer in layers]
    with torch.no_grad():
        dense(torch.zeros(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    return total


def test_each_width_is_the_dense_network_measured_in_float64(evaluate, image_folder):
    table, results = evaluate('--width', *WIDTHS, '--recalibration-batches', 1)
    train, _ = read_images(image_folder / 'train')  # 24 images: one batch, whatever its order
    images, labels = read_images(image_folder / 'validation')
    assert table[0] == 'width params (M) multiply-adds (M) top-1 top-5'.split() and len(table) == 1 + len(WIDTHS)
    for line, row, width in zip(table[1:], results, WIDTHS):
        dense = extract(network(), Subnet(width, 4))
        dense = dense if width == 1 else measured_in_float64(dense, [train])
        with torch.no_grad():
            logits = dense(images)
        top1 = 100 * (logits.argmax(1) == labels).float().mean().item()
        size, cost = sum(p.numel() for p in dense.parameters()) / 1e6, multiply_adds_of(dense)
        assert row['loss'] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-3)
        assert (row['width'], row['divisor'], row['multiply_adds']) == (width, 4, cost)
        assert row['top1'] == pytest.approx(top1, abs=1e-3)
        assert line == [f'{width:g}', f'{size:.2f}', f'{cost / 1e6:.3f}', f'{row["top1"]:.3f}', f'{row["top5"]:.3f}']


@pytest.mark.parametrize('flags', [
    ('-b', 8, '--recalibration-batches', 2),  # random batches
    ('--recalibration-batches', 0, '--model-dtype', 'bfloat16', '--channels-last'),
])
def test_together_widths_give_what_each_gives_alone(evaluate, flags):
    alone = []
    for width in WIDTHS:
        table, row = evaluate('--width', width, *flags)
        assert table == []
        alone.append(row)
    assert evaluate('--width', *WIDTHS, *flags)[1] == alone
    assert len({row['loss'] for row in alone}) == len(WIDTHS)


def test_each_image_is_read_once_for_all_widths(evaluate, monkeypatch):
    read, original = [], Images.__getitem__
    monkeypatch.setattr(Images, '__getitem__', lambda self, index: (
        read.append(self.reader.filename(index, absolute=True)), original(self, index))[1])
    evaluate('--width', *WIDTHS, '--recalibration-batches', 1)
    assert len(set(read)) == 24 + 10
    assert len(read) == 24 + 10 + 2  # the first image of each split is also read to compare its channels


def test_recalibration_of_several_subnets_is_that_of_each_and_keeps_no_batch():
    subnets, model, kept, most = [Subnet(0.5, 4), Subnet(0.75, 4), Subnet(0.5, 4, skipped=(1,))], network(), [], 0

    def batches():
        nonlocal most
        for seed in range(4):
            batch = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
            kept.append(weakref.ref(batch))
            most = max(most, sum(batch() is not None for batch in kept))
            yield batch

    recalibrate_all(model, subnets, batches())
    assert len(kept) == 4 and most <= 2
    for subnet in subnets:
        other = network()
        recalibrate(other, subnet, batches())
        expected, measured = statistics(other, subnet), statistics(model, subnet)
        assert expected.keys() == measured.keys() and len(expected) > 0
        assert all(torch.equal(a, b) for name in expected for a, b in zip(expected[name], measured[name]))


def test_without_batch_norm_no_training_image_is_read(tmp_path, image_folder, capsys, caplog):
    name, kwargs = 'gradaug_test_resnet', dict(norm_layer='groupnorm', channels=(32, 64, 64, 64), stem_width=32)
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=6, **kwargs).eval()
    path = tmp_path / 'model.pth'
    torch.save(model.state_dict(), path)
    cfg = timm.get_pretrained_cfg('resnet20_cifar')
    with caplog.at_level('INFO'):
        main([
            '--data-dir', str(image_folder / 'validation'), '--model', name, '--checkpoint', str(path),
            '--num-classes', '6', '--device', 'cpu', '-j', '0', '--width', '0.75', '0.5', '--img-size', '32',
            '--crop-pct', '1', '--mean', *map(str, cfg.mean), '--std', *map(str, cfg.std),
            '--model-kwargs', *(f'{key}={value}' for key, value in kwargs.items())])
    assert 'has no BatchNorm' in caplog.text
    results = json.loads(capsys.readouterr().out.split('--result\n')[1])
    images, labels = read_images(image_folder / 'validation')
    for row in results:
        with torch.no_grad():
            logits = extract(model, Subnet(row['width']))(images)
        assert row['loss'] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), abs=1e-4)
    assert results[0]['param_count'] > results[1]['param_count']


def test_every_width_of_every_checkpoint_is_a_row_and_the_best_checkpoint_comes_first(evaluate, tmp_path):
    model = network()
    for name, bias in (('always_5.pth', 90.), ('always_0.pth', -90.)):  # no image is a 5, half of them are 0
        state = model.state_dict()
        state['head.fc.bias'] = torch.tensor([0., 0, 0, 0, 0, bias]) - torch.tensor([0., 1, 1, 1, 1, 0]) * 90
        torch.save(state, tmp_path / name)
    (tmp_path / 'broken.pth').write_bytes(b'broken')
    flags = ('--recalibration-batches', 0, '--results-file', tmp_path / 'results.csv')
    table, results = evaluate('--width', 0.5, 1, *flags, checkpoint=tmp_path)
    assert [line[:2] for line in table[1:]] == [
        ['always_0.pth', '0.5'], ['always_0.pth', '1'], ['always_5.pth', '0.5'], ['always_5.pth', '1']]
    assert [row['top1'] for row in results] == [50, 50, 0, 0]
    with open(tmp_path / 'results.csv') as file:
        assert list(csv.DictReader(file)) == [{key: str(value) for key, value in row.items()} for row in results]


def test_the_table_shows_multi_label_metrics(evaluate, image_folder, monkeypatch):
    targets = [[0, 5], [1], [2, 3], [4], [0], [1, 2], [3], [5, 4], [0, 1, 2], []]
    monkeypatch.setattr('gradaug_timm.evaluation.loading.create_dataset', lambda *_, target_transform, **__: (
        PixelsWithLabels(image_folder / 'validation', targets, target_transform)))
    flags = ('--task', 'multilabel', '--dataset', 'any', '--recalibration-batches', 0)
    table, results = evaluate('--width', 0.75, 0.5, *flags)
    assert table[0][-4:] == ['map', 'micro_f1', 'macro_f1', 'sample_f1']
    assert [line[-4:] for line in table[1:]] == [[f'{row[name]:.3f}' for name in table[0][-4:]] for row in results]
    assert results == [evaluate('--width', width, *flags)[1] for width in (0.75, 0.5)]


def test_a_width_that_keeps_every_channel_is_named_before_anything_is_measured(evaluate, capsys):
    with pytest.raises(SystemExit) as exit:
        evaluate('--width', 0.5, 0.99, '--train-split', 'missing')
    assert exit.value.code == 2
    assert '--divisor 4 is too large for --width 0.99' in capsys.readouterr().err.strip().splitlines()[-1]


def test_more_widths_than_torch_compile_makes_graphs_by_default_are_all_compiled(evaluate):
    flags = ('--width', *WIDTHS, '--recalibration-batches', 0, '-b', 6)
    plain = evaluate(*flags)[1]
    torch._dynamo.reset()
    limit = recompile_limit()
    compiled = evaluate(*flags, '--torchcompile', 'eager')[1]
    assert recompile_limit() == limit
    assert [row['loss'] for row in compiled] == pytest.approx([row['loss'] for row in plain], abs=1e-3)
