"""--confusion-matrix: counts against a count by hand, files, and the picture for few and for many classes."""
import csv
import json
import os
from collections import Counter

import pytest
import torch
import torch.distributed as dist
from PIL import Image
from processes import free_port, run_ranks
from train_helpers import arguments, error_line, make_image_folder, train

from gradaug_timm import EvaluationSettings, evaluate, open_trained
from gradaug_timm.confusion import ConfusionCounts, write_confusion
from gradaug_timm.evaluation.main import main as validate

CPU = torch.device('cpu')


def counted_by_hand(predicted, true) -> Counter:
    return Counter(zip(map(int, true), map(int, predicted)))


def as_counter(counts: torch.Tensor) -> Counter:
    return Counter({(row, column): int(counts[row, column]) for row, column in counts.nonzero().tolist()})


def read_csv(path) -> tuple[list[str], dict[str, list[int]]]:
    with open(path, newline='', encoding='utf-8') as file:
        head, *rows = csv.reader(file)
    return head[1:], {row[0]: list(map(int, row[1:])) for row in rows}


def random_batches(images: int, classes: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(images, classes, generator=generator)
    return outputs, torch.randint(classes, (images,), generator=generator)


def test_counts_are_those_of_a_count_by_hand():
    outputs, labels = random_batches(101, 7)
    counts = ConfusionCounts(7, CPU)
    for output, target in zip(outputs.split(8), labels.split(8)):
        counts.update(output, target)
    predicted = [max(range(7), key=row.__getitem__) for row in outputs]
    assert as_counter(counts.compute()) == counted_by_hand(predicted, labels)


def test_labels_out_of_range_do_not_count():
    outputs, labels = random_batches(20, 3)
    labels[4], labels[9] = -1, 3
    counts = ConfusionCounts(3, CPU)
    for output, target in zip(outputs.split(8), labels.split(8)):
        counts.update(output, target)
    kept = [index for index in range(20) if index not in (4, 9)]
    assert as_counter(counts.compute()) == counted_by_hand(outputs[kept].argmax(1), labels[kept])


def _count_in_rank(rank: int, port: int, out: str) -> None:
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    counts = ConfusionCounts(5, CPU)
    counts.update(*random_batches(30, 5, seed=rank))
    torch.save(counts.compute(distributed=True), f'{out}.{rank}')
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_add_their_counts(tmp_path):
    run_ranks(_count_in_rank, free_port(), str(tmp_path / 'counts'))
    expected = Counter()
    for rank in range(2):
        outputs, labels = random_batches(30, 5, seed=rank)
        expected += counted_by_hand(outputs.argmax(1), labels)
    for rank in range(2):
        assert as_counter(torch.load(tmp_path / f'counts.{rank}')) == expected


@pytest.mark.parametrize('classes', [2, 25, 120])
def test_the_files_hold_the_counts_the_names_and_the_most_confused_pairs(tmp_path, classes):
    outputs, labels = random_batches(40 * classes, classes)
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for (true, predicted), count in counted_by_hand(outputs.argmax(1), labels).items():
        counts[true, predicted] = count
    counts[1, 0] = 1000
    names = [f'$class_{label} of a long name, "quoted"' for label in range(classes)]
    paths = write_confusion(counts, names, str(tmp_path / 'matrix.png'))
    assert sorted(map(os.path.basename, paths)) == ['matrix.csv', 'matrix.json', 'matrix.png']
    head, rows = read_csv(tmp_path / 'matrix.csv')
    assert head == names and [rows[name] for name in names] == counts.tolist()
    values = json.loads((tmp_path / 'matrix.json').read_text())
    assert values['matrix'] == counts.tolist() and values['classes'] == names
    assert (values['images'], values['correct']) == (counts.sum(), sum(counts[i, i] for i in range(classes)))
    worst = values['most_confused'][0]
    assert (worst['true'], worst['predicted'], worst['count']) == (names[1], names[0], 1000)
    assert worst['share'] == pytest.approx(1000 / counts[1].sum().item(), abs=1e-4)
    with Image.open(tmp_path / 'matrix.png') as picture:
        assert min(picture.size) > max(300, classes), 'every class has at least a pixel'


def test_without_names_classes_are_numbers_and_a_csv_alone_needs_no_picture(tmp_path):
    write_confusion(torch.eye(3, dtype=torch.int64), None, str(tmp_path / 'matrix.csv'))
    assert [path.name for path in tmp_path.iterdir()] == ['matrix.csv']
    assert read_csv(tmp_path / 'matrix.csv') == (['0', '1', '2'], {'0': [1, 0, 0], '1': [0, 1, 0], '2': [0, 0, 1]})


def test_many_classes_without_a_mistake_have_no_list_of_mistakes(tmp_path):
    write_confusion(torch.eye(31, dtype=torch.int64), None, str(tmp_path / 'matrix.png'))
    with Image.open(tmp_path / 'matrix.png') as picture:
        assert picture.width < 1.2 * picture.height


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp('confusion')
    data = make_image_folder(root / 'data', classes='abc', images=5)
    return data, train(data, root / 'runs', num_classes=3, confusion_matrix=True)


def predictions(folder, data) -> Counter:
    network = open_trained(folder / 'last.pth.tar')
    mean, std = (torch.tensor(network.config[name]).view(3, 1, 1) for name in ('mean', 'std'))
    found = Counter()
    for label, name in enumerate('abc'):
        pixels = torch.tensor([ord(name), 30, 30]).view(3, 1, 1).expand(3, 16, 16) / 255
        with torch.no_grad():
            found[label, int(network.network(((pixels - mean) / std)[None]).argmax())] += 5
    return found


def test_training_writes_the_matrix_of_its_last_validation(trained):
    data, folder = trained
    head, rows = read_csv(folder / 'confusion_matrix.csv')
    assert head == list('abc')
    assert as_counter(torch.tensor([rows[name] for name in 'abc'])) == predictions(folder, data)
    assert (folder / 'confusion_matrix.png').exists() and (folder / 'confusion_matrix.json').exists()


def test_validation_writes_the_matrix_of_every_width(trained, tmp_path):
    data, folder = trained
    validate(['--data-dir', str(data), '--model', 'resnet20_cifar', '--model-kwargs', 'depth=8', '--num-classes', '3',
              '--checkpoint', str(folder / 'last.pth.tar'), '--device', 'cpu', '-j', '0', '--img-size', '16',
              '--width', '1', '0.5', '--recalibration-batches', '0',
              '--confusion-matrix', str(tmp_path / 'all.csv')])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['all-0.5.csv', 'all-1.csv']
    rows = read_csv(tmp_path / 'all-1.csv')[1]
    assert as_counter(torch.tensor([rows[name] for name in 'abc'])) == predictions(folder, data)


def test_evaluation_from_python_writes_it_too(trained, tmp_path):
    data, folder = trained
    evaluate(EvaluationSettings(data_dir=data, workers=0, device='cpu', confusion_matrix=tmp_path / 'one.json'),
             open_trained(folder / 'last.pth.tar'))
    values = json.loads((tmp_path / 'one.json').read_text())
    assert values['classes'] == list('abc') and values['images'] == 15


def test_where_the_matrix_has_no_meaning_it_is_refused_before_training(trained, tmp_path, capsys):
    data, _ = trained
    for flags, words in (
        (dict(task='multilabel', dataset='hfds/any'), 'one label per image'),
        (dict(val_split=''), 'needs a validation split'),
    ):
        argv = arguments(data, tmp_path, confusion_matrix=True, **{k: v for k, v in flags.items() if v})
        argv += ['--val-split', ''] if 'val_split' in flags else []
        assert words in error_line(capsys, argv)
    assert 'selects the format' in error_line(capsys, arguments(data, tmp_path, confusion_matrix='matrix.pdf'))


def test_a_matrix_that_cannot_be_written_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    data = make_image_folder(tmp_path / 'data')

    def full(*_):
        raise OSError('no space left')
    monkeypatch.setattr('gradaug_timm.training.loop.validation.write_confusion', full)
    folder = train(data, tmp_path / 'runs', confusion_matrix=True)
    assert (folder / 'last.pth.tar').exists()
    assert 'no space left' in caplog.text
