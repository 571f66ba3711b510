"""validate.py: results against values computed by hand, and errors before the evaluation."""
import csv
import json
import os
import re
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from timm.data import MultiLabelTarget
from torch import nn

import gradaug_timm  # noqa: F401  registers the models
from gradaug_timm.evaluation import run
from gradaug_timm.evaluation.main import main

MODEL = 'resnet20_cifar'


@pytest.fixture(scope='module')
def network(image_folder):
    """A small network with statistics of its own, in evaluation mode; it is right about some of the images."""
    torch.manual_seed(0)
    model = timm.create_model(MODEL, num_classes=6)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 32, 32))
        logits = model.eval()(read_images(image_folder / 'validation')[0])
        ahead = (logits[:, 0] - logits[:, 1]).quantile(0.3)
        model.get_classifier().bias += torch.tensor([20 - ahead, 20, 0, 0, 0, 0])
    return model


@pytest.fixture(scope='module')
def checkpoint(network, tmp_path_factory):
    """A file with that network, and as its averaged weights the same with another classifier."""
    path = tmp_path_factory.mktemp('checkpoint') / 'last.pth.tar'
    bias = network.get_classifier().bias.detach()
    ema = {**network.state_dict(), 'head.fc.bias': bias + torch.tensor([0., 0, 30, 0, 0, 0])}
    torch.save({'state_dict': network.state_dict(), 'state_dict_ema': ema, 'arch': MODEL}, path)
    return path


@pytest.fixture
def evaluate(image_folder, checkpoint, capsys):
    """Runs validate.py on the image folder; its printed results."""
    def run(*flags, model=MODEL, checkpoint=checkpoint, data=image_folder):
        main([
            *([str(data)] if data else []), '--model', model, '--checkpoint', str(checkpoint), '--num-classes', '6',
            '--device', 'cpu', '--workers', '0', '-b', '4', *map(str, flags)])
        printed = capsys.readouterr().out
        assert printed.startswith('--result\n')
        return json.loads(printed.removeprefix('--result\n'))
    return run


@pytest.fixture
def refusal(evaluate, capsys):
    """Runs validate.py, which must exit with 2; its only line on stderr."""
    def run(*flags, **kwargs):
        with pytest.raises(SystemExit) as exit:
            evaluate(*flags, **kwargs)
        assert exit.value.code == 2
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith('validate.py: error:')]
        assert len(error) == 1
        return error[0]
    return run


def read_images(folder):
    """Images and labels of an image folder, normalised as the CIFAR networks want it."""
    paths = sorted(folder.glob('*/*.png'))
    names = sorted({path.parent.name for path in paths})
    images = np.stack([np.asarray(Image.open(path), dtype=np.float32) / 255 for path in paths])
    cfg = timm.get_pretrained_cfg(MODEL)
    images = (images - np.float32(cfg.mean)) / np.float32(cfg.std)
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor([names.index(path.parent.name) for path in paths])


def expected(model, folder):
    """Top-1 and loss of all images in one batch."""
    images, labels = read_images(folder)
    with torch.no_grad():
        logits = model(images)
    top1 = 100 * (logits.argmax(1) == labels).float().mean().item()
    return top1, torch.nn.functional.cross_entropy(logits, labels).item()


@pytest.mark.parametrize('flags', [(), ('--no-prefetcher',), ('--channels-last',), ('--torchcompile', 'eager')])
def test_results_are_those_of_a_plain_loop(evaluate, network, image_folder, flags):
    results = evaluate(*flags)
    top1, loss = expected(network, image_folder / 'validation')
    assert 0 < top1 < 100
    assert results['top1'] == pytest.approx(top1, abs=1e-3)
    assert results['top1_err'] == pytest.approx(100 - top1, abs=1e-3)
    assert results['loss'] == pytest.approx(loss, abs=2e-4)
    assert results['model'] == MODEL and results['img_size'] == 32
    assert results['param_count'] == round(sum(p.numel() for p in network.parameters()) / 1e6, 2)


@pytest.mark.parametrize('flags', [('--amp', '--amp-dtype', 'bfloat16'), ('--model-dtype', 'bfloat16')])
def test_low_precision_is_close(evaluate, network, image_folder, flags):
    assert evaluate(*flags)['loss'] == pytest.approx(expected(network, image_folder / 'validation')[1], abs=0.05)


def test_averaged_weights_are_used_only_on_request(evaluate):
    assert evaluate('--use-ema')['loss'] > evaluate()['loss'] + 1  # the averaged ones favour class 2


def test_another_split_and_the_folder_of_a_split_itself_can_be_evaluated(evaluate, network, image_folder):
    top1, loss = expected(network, image_folder / 'train')
    for results in (evaluate('--split', 'train'), evaluate(data=image_folder / 'train')):
        assert results['top1'] == pytest.approx(top1, abs=1e-3)
        assert results['loss'] == pytest.approx(loss, abs=2e-4)


def test_a_missing_validation_folder_is_not_replaced_by_the_training_images(refusal, tmp_path, image_folder):
    os.symlink(image_folder / 'train', tmp_path / 'train')
    assert str(tmp_path) in refusal(data=tmp_path)


def test_valid_labels_restrict_the_outputs(evaluate, network, image_folder, tmp_path):
    labels = tmp_path / 'valid.txt'
    labels.write_text('4\n2\n')
    images, targets = read_images(image_folder / 'validation')
    with torch.no_grad():
        predictions = network(images)[:, [4, 2]].argmax(1)
    assert evaluate('--valid-labels', labels)['top1'] == pytest.approx(
        100 * (predictions == targets).float().mean().item(), abs=1e-3)


def test_averaged_metrics_are_those_of_scikit_learn(evaluate, network, image_folder):
    images, targets = read_images(image_folder / 'validation')
    with torch.no_grad():
        predictions = network(images).argmax(1)
    scores = precision_recall_fscore_support(targets, predictions, average='weighted', zero_division=0)
    results = evaluate('--metrics-avg', 'weighted')
    for name, score in zip(('precision', 'recall', 'f1_score'), scores):
        assert results[f'weighted_{name}'] == pytest.approx(100 * score, abs=1e-3)


def test_multi_label_results_are_those_of_scikit_learn(evaluate, network, image_folder, monkeypatch):
    images, _ = read_images(image_folder / 'validation')
    targets = [[0, 5], [1], [2, 3], [4], [0], [1, 2], [3], [5, 4], [0, 1, 2], []]
    monkeypatch.setattr('gradaug_timm.evaluation.loading.create_dataset', lambda *_, target_transform, **__: (
        PixelsWithLabels(image_folder / 'validation', targets, target_transform)))
    dense = torch.stack([MultiLabelTarget(6)(target) for target in targets])
    with torch.no_grad():
        scores = network(images)
    results = evaluate('--task', 'multilabel', '--multilabel-threshold', '0.4', '--dataset', 'any')
    assert 'top1' not in results
    assert results['map'] == pytest.approx(100 * average_precision_score(dense, scores, average='macro'), abs=1e-2)
    chosen = scores.sigmoid() >= 0.4
    hits, total = (chosen & dense.bool()).sum(), chosen.sum() + dense.sum()
    assert results['micro_f1'] == pytest.approx(200 * (hits / total).item(), abs=1e-2)


class PixelsWithLabels(torch.utils.data.Dataset):
    """The images of a folder with other labels."""

    def __init__(self, folder, targets, target_transform):
        self.paths, self.labels, self.target_transform = sorted(folder.glob('*/*.png')), targets, target_transform
        self.transform = None

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index])), self.target_transform(self.labels[index])


@pytest.mark.parametrize('format', ['csv', 'json'])
def test_results_are_written_to_a_file(evaluate, tmp_path, format):
    path = tmp_path / 'results'
    results = evaluate('--results-file', path, '--results-format', format)
    if format == 'json':
        assert json.loads(path.read_text()) == results
    else:
        with open(path) as file:
            assert list(csv.DictReader(file)) == [{key: str(value) for key, value in results.items()}]


def test_every_checkpoint_of_a_folder_is_evaluated_and_the_best_comes_first(evaluate, network, tmp_path):
    for name, bias in (('a.pth', 50.), ('b.pth.tar', 0.)):  # a.pth always says 5, which no image is
        state = network.state_dict()
        state['head.fc.bias'] = state['head.fc.bias'] + torch.tensor([0., 0, 0, 0, 0, bias])
        torch.save(state, tmp_path / name)
    (tmp_path / 'c.pth').write_bytes(b'broken')
    results = evaluate(checkpoint=tmp_path)
    assert [os.path.basename(result['checkpoint']) for result in results][-1] == 'a.pth'
    assert len(results) == 2 and results[0]['top1'] > results[1]['top1'] == 0


def test_nothing_that_can_be_evaluated_is_an_error(refusal, tmp_path):
    (tmp_path / 'a.pth').write_bytes(b'broken')
    assert f'none of {tmp_path / "a.pth"} could be evaluated' in refusal(checkpoint=tmp_path)
    assert '--split test' in refusal('--retry', '--split', 'test')


@pytest.mark.parametrize('done', [0, 1])
def test_an_interrupted_row_of_evaluations_gives_what_is_done(evaluate, tmp_path, monkeypatch, done):
    def validate(args, *_):
        if args.checkpoint.endswith('b.pth' if done else 'a.pth'):
            raise KeyboardInterrupt
        return dict(top1=1)

    monkeypatch.setattr(sys.modules['gradaug_timm.evaluation.jobs'], 'validate', validate)
    for name in ('a.pth', 'b.pth'):
        (tmp_path / name).touch()
    if done:
        assert evaluate(checkpoint=tmp_path) == [dict(top1=1, checkpoint=str(tmp_path / 'a.pth'))]
    else:
        with pytest.raises(SystemExit) as exit:
            evaluate(checkpoint=tmp_path)
        assert exit.value.code == 130


@pytest.mark.parametrize('format', ['csv', 'json'])
def test_results_that_cannot_be_written_are_printed_and_the_old_file_stays(
        evaluate, tmp_path, format, monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, 'No space left on device')

    path = tmp_path / 'results'
    path.write_text('before')
    monkeypatch.setattr('gradaug_timm.files.os.replace', fail)
    with pytest.raises(SystemExit) as exit:
        evaluate('--results-file', path, '--results-format', format)
    printed = capsys.readouterr()
    assert exit.value.code == 2 and json.loads(printed.out.removeprefix('--result\n'))['model'] == MODEL
    assert f'{path} cannot be written: No space left on device' in printed.err.splitlines()[-1]
    assert path.read_text() == 'before' and list(tmp_path.iterdir()) == [path]


def test_retry_takes_smaller_batches_until_one_fits(evaluate, monkeypatch):
    sizes = []

    def validate(args, *_):
        sizes.append(args.batch_size)
        if args.batch_size > 1:
            raise RuntimeError('out of memory')
        return dict(top1=1)

    monkeypatch.setattr(sys.modules['gradaug_timm.evaluation.jobs'], 'validate', validate)
    assert evaluate('--retry') == dict(top1=1)
    assert sizes == [4, 3, 2, 1]


def test_what_fails_with_every_batch_size_is_an_error(refusal, monkeypatch):
    def validate(args, *_):
        raise RuntimeError('out of\nmemory')

    monkeypatch.setattr(sys.modules['gradaug_timm.evaluation.jobs'], 'validate', validate)
    assert f'--model {MODEL} fails with batches of 1: out of memory' in refusal('--retry')


@pytest.mark.parametrize('flags, words', [
    (['--widht', '0.5'], ['--widht', '--width']),
    (['--wid', '0.5'], ['--wid', '--width']),
    (['--width', '0'], ['--width', "'0'", 'above 0', 'at most 1']),
    (['--width', '1.5'], ['--width', "'1.5'"]),
    (['--width', '0.5', '1', '0'], ['--width', "'0'", 'above 0', 'at most 1']),
    (['--width', '0.5', '1', '0.50'], ['--width 0.5 1.0 0.5', 'twice']),
    (['--width', '0.9,0.8'], ['--width', "'0.9,0.8'", 'a number']),
    (['--divisor', '4'], ['--divisor', '--width']),
    (['--workers', '-1'], ['--workers', 'at least 0']),
    (['--crop-mode', 'centre'], ['--crop-mode', 'center', 'squash']),
    (['--amp-dtype', 'half'], ['--amp-dtype', 'bfloat16']),
    (['--amp', '--model-dtype', 'float16'], ['--amp', '--model-dtype']),
    (['--model-kwargs', 'drop_rate'], ['--model-kwargs', 'key=value']),
    (['--model-kwargs', 'drop_rat=0.1'], ['--model', 'drop_rat']),
    (['--torchscript'], ['--torchscript', '--torchcompile']),
    (['--naflex-loader'], ['--naflex-loader']),
    (['--target-format', 'multihot'], ['--task multilabel']),
    (['--device', 'cudda'], ['--device', 'cudda']),
    (['--num-gpu', '64'], ['--num-gpu', '64']),
    (['--gp', 'median'], [MODEL, 'median']),
    (['--results-file', '/no/such/folder/results.csv'], ['--results-file', '/no/such/folder']),
    (['--results-file', os.curdir], ['--results-file', 'must be a file, not a folder']),
    (['--mean', '0.5', '0.5'], ['--mean', 'each of 3 channels']),
    (['--std', '1', '1', '--in-chans', '1'], ['--std', 'each of 1 channels']),
    (['--in-chans', '1', '--input-size', '3', '32', '32'], ['--in-chans 1', '--input-size']),
    (['--task', 'multilabel'], ['--task multilabel', '--dataset']),
    (['--model', sys.executable], ['--model', sys.executable, '--checkpoint']),
    (['--valid-labels', '/no/such/file'], ['--valid-labels', '/no/such/file']),
    (['--real-labels', '/no/such/file'], ['--real-labels', '/no/such/file']),
    (['--split', 'test'], ['test']),
    (['--model', 'resnet20_cifra'], ['resnet20_cifra', 'resnet20_cifar']),
    (['--model', 'no_such_*'], ['no_such_*']),
    (['--num-classes', '1'], [MODEL, 'it has']),
])
def test_a_bad_flag_ends_with_one_line(refusal, flags, words):
    line = refusal(*flags)
    assert all(word in line for word in words), line


def test_labels_beyond_the_outputs_are_found_before_evaluation(refusal, network, tmp_path):
    path = tmp_path / 'one.pth'
    torch.save(timm.create_model(MODEL, num_classes=1).state_dict(), path)
    line = refusal('--num-classes', '1', checkpoint=path)
    assert '--num-classes 1' in line and '0 to 1' in line


def test_every_flag_of_timm_is_known_with_its_default():
    """Flags and defaults of timm 1.0.31's validate.py, as its documentation and tests have them."""
    from gradaug_timm.evaluation.arguments import build_parser
    actions = {flag: action for action in build_parser()._actions for flag in action.option_strings}
    defaults = {
        '--data-dir': None, '--dataset': '', '--split': 'validation', '--num-samples': None,
        '--dataset-download': False, '--class-map': '', '--input-key': None, '--input-img-mode': None,
        '--target-key': None, '--dataset-trust-remote-code': False, '-m': 'dpn92', '--pretrained': False, '-j':
        4, '-b': 256, '--img-size': None, '--in-chans': None, '--input-size': None, '--use-train-size': False,
        '--crop-pct': None, '--crop-mode': None, '--crop-border-pixels': None, '--mean': None, '--std': None,
        '--interpolation': '', '--num-classes': None, '--gp': None, '--log-freq': 10, '--checkpoint': '',
        '--num-gpu': 1, '--test-pool': False, '--no-prefetcher': False, '--pin-mem': False, '--channels-last':
        False, '--amp': False, '--amp-dtype': 'float16', '--model-dtype': None, '--tf-preprocessing': False,
        '--use-ema': False, '--fast-norm': False, '--reparam': False, '--model-kwargs': {}, '--torchcompile':
        None, '--torchcompile-mode': None, '--results-file': '', '--results-format': 'csv', '--real-labels': '',
        '--valid-labels': '', '--retry': False, '--seed': 42, '--metrics-avg': None, '--task': 'classification',
        '--target-format': 'indices', '--multilabel-threshold': 0.5,
    }
    assert {flag: actions[flag].default for flag in defaults} == defaults
    for refused in ('--torchscript', '--aot-autograd', '--fuser', '--naflex-loader', '--naflex-max-seq-len'):
        assert re.search('TorchScript|NaFlex', actions[refused].reason)


def test_batch_norm_has_the_epsilon_of_training(evaluate, tmp_path):
    from argparse import Namespace
    torch.manual_seed(0)
    state = timm.create_model('test_efficientnet', num_classes=6).state_dict()
    torch.save(dict(state_dict=state, args=Namespace(bn_eps=0.5)), tmp_path / 'trained.pth')
    torch.save(dict(state_dict=state), tmp_path / 'plain.pth')
    losses = [
        evaluate('--img-size', 32, *flags, model='test_efficientnet', checkpoint=tmp_path / name)['loss']
        for name, *flags in (
            ['trained.pth'], ['plain.pth', '--model-kwargs', 'bn_eps=0.5'], ['plain.pth'],
            ['trained.pth', '--model-kwargs', 'bn_eps=1e-5'])
    ]
    assert losses[0] == losses[1] != losses[2] == losses[3]


@pytest.mark.gpu
def test_the_accelerator_is_picked(evaluate, network, image_folder, checkpoint, capsys, caplog):
    caplog.set_level('INFO')
    main([str(image_folder), '--model', MODEL, '--checkpoint', str(checkpoint), '--num-classes', '6', '-j', '0'])
    assert 'on cuda' in caplog.text
    results = json.loads(capsys.readouterr().out.removeprefix('--result\n'))
    assert results['loss'] == pytest.approx(expected(network, image_folder / 'validation')[1], abs=0.02)


def test_a_network_that_needs_ever_more_graphs_ends_with_one_line_and_never_runs_eagerly(refusal, monkeypatch):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    seen, forward = [], nn.Linear.forward
    def changing(layer, x):
        seen.append(len(x))
        return forward(layer, x) * len(seen)
    monkeypatch.setattr(run, 'most_alike', lambda network: 1)
    monkeypatch.setattr(nn.Linear, 'forward', changing)
    assert 'needs another, though networks and shapes make 2' in refusal('--torchcompile', 'eager')
