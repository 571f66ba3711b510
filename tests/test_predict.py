"""Predictions of a trained network as tables and as a contact sheet."""
import csv
import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from timm.data import ImageNetInfo, create_transform
from torch.utils.data import TensorDataset
from train_helpers import make_image_folder, train

from gradaug_timm import Subnet, open_trained, save_extracted
from gradaug_timm.evaluation.trained import Trained
from gradaug_timm.export.main import main as export
from gradaug_timm.predict.images import Marked, names_of
from gradaug_timm.predict.labels import label_texts
from gradaug_timm.predict.main import main
from gradaug_timm.predict.sheet import choose


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A run on two classes, and a flat folder of images: 2 before 10."""
    root = tmp_path_factory.mktemp('predict')
    data = make_image_folder(root / 'data', classes='ab')
    run = train(data, root / 'output')
    flat = root / 'flat'
    flat.mkdir()
    for number, level in ((10, 200), (2, 90), (1, 20)):
        Image.fromarray(np.full((20, 24, 3), level, np.uint8)).save(flat / f'{number}.png')
    return root, run, flat


@pytest.fixture
def predict(trained, tmp_path, capsys):
    """Runs the command; returns the rows of the JSON file and what was printed."""
    def run_command(*more, checkpoint=None, data=None):
        _, run, flat = trained
        given = run if checkpoint is None else checkpoint
        main(['--checkpoint', str(given), '--data-dir', str(data or flat), '--workers', '0', '--device', 'cpu',
              '--results-dir', str(tmp_path), '--results-file', 'out', '--results-format', 'json-record', *more])
        return json.loads((tmp_path / 'out.json').read_text()), capsys.readouterr()
    return run_command


def probabilities(trained, path):
    """What the network says of an image, computed by hand."""
    config = trained.config
    transform = create_transform(**{name: config[name] for name in (
        'input_size', 'interpolation', 'mean', 'std', 'crop_pct', 'crop_mode')})
    with torch.no_grad():
        return trained.network(transform(Image.open(path).convert('RGB'))[None]).softmax(1)[0]


def refused(capsys, argv):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, argv)))
    assert ended.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_flat_folder_gets_the_networks_names_and_probabilities(trained, predict):
    _, run, flat = trained
    rows, printed = predict()
    opened = open_trained(run / 'model_best.safetensors')
    assert [row['filename'] for row in rows] == ['1.png', '2.png', '10.png']
    for row in rows:
        expected = probabilities(opened, flat / row['filename'])
        assert row['label'] == 'ab'[expected.argmax()]
        assert row['prob'] == pytest.approx(expected.max().item(), abs=1e-5)
    shown = json.loads(printed.out.split('--result\n')[1])
    assert shown == {row['filename']: {'label': row['label'], 'prob': row['prob']} for row in rows}


@pytest.mark.parametrize('kind', ['checkpoint', 'extracted', 'exported', 'local-dir'])
def test_every_kind_of_network_predicts_the_same(kind, trained, predict, tmp_path):
    _, run, _ = trained
    expected, _ = predict(checkpoint=run / 'last.pth.tar')
    path, more = run / 'last.pth.tar', []
    if kind == 'extracted':
        opened = open_trained(path)
        network = timm.create_model('gradaug_resnet20_cifar', num_classes=2, depth=8)
        network.load_state_dict(opened.network.state_dict())
        path = tmp_path / 'small.safetensors'
        save_extracted(network, Subnet(), path, data=opened.config, class_names=opened.class_names)
    elif kind != 'checkpoint':
        path = tmp_path / 'exported'
        export([str(run / 'last.pth.tar'), '--to', str(path)])
    if kind == 'local-dir':
        path, more = '', ['--model', f'local-dir:{path}']
    rows, _ = predict(*more, checkpoint=path)
    assert [(row['filename'], row['label']) for row in rows] == [(row['filename'], row['label']) for row in expected]
    assert [row['prob'] for row in rows] == pytest.approx([row['prob'] for row in expected], abs=1e-4)


def test_class_folders_tar_files_and_single_images_are_read(trained, predict, tmp_path):
    root, _, flat = trained
    rows, _ = predict(data=root / 'data')
    assert [row['filename'] for row in rows] == [f'{name}/{index}.png' for name in 'ab' for index in range(4)]
    expected, _ = predict()
    with tarfile.open(tmp_path / 'flat.tar', 'w') as tar:
        for path in flat.iterdir():
            tar.add(path, path.name)
    packed, _ = predict(data=tmp_path / 'flat.tar')
    assert sorted(packed, key=str) == sorted(expected, key=str)
    single, _ = predict(data=flat / '2.png')
    assert single == [row for row in expected if row['filename'] == '2.png']
    assert len(predict('--split', 'train[:50%]', data=root / 'data')[0]) == 4


def test_unreadable_images_are_rows_with_the_reason(trained, predict, tmp_path, caplog):
    _, _, flat = trained
    mixed = tmp_path / 'mixed'
    shutil.copytree(flat, mixed)
    (mixed / '3.png').write_bytes(b'no image')
    (mixed / '.hidden.png').write_bytes(b'no image')
    rows, _ = predict('--topk', '2', data=mixed)
    assert [row['filename'] for row in rows] == ['1.png', '2.png', '3.png', '10.png']
    assert [row['error'] is None for row in rows] == [True, True, False, True]
    assert rows[2]['label'] is None and rows[2]['prob'] is None and 'UnidentifiedImageError' in rows[2]['error']
    expected, _ = predict('--topk', '2')
    assert [{**row, 'error': None} for row in expected] == [rows[0], rows[1], rows[3]]
    assert '1 can\'t be read' in caplog.text or '3.png can\'t be read' in caplog.text


def test_a_folder_without_a_readable_image_ends_in_one_line(trained, tmp_path, capsys):
    _, run, _ = trained
    (tmp_path / 'a.png').write_bytes(b'no image')
    argv = ['--checkpoint', run, '--data-dir', tmp_path, '--workers', '0', '--device', 'cpu', '--results-dir', tmp_path]
    assert 'no image can be read; the first of 1 is a.png' in refused(capsys, argv)
    (tmp_path / 'a.png').rename(tmp_path / 'a.doc')
    assert 'has no images: .png' in refused(capsys, argv)


def test_the_flags_of_timm_choose_columns(trained, predict):
    rows, _ = predict('--topk', '2', '--include-index', '--output-type', 'logit', '--label-col', 'name',
                      '--filename-col', 'file', '--index-col', 'number', '--output-col', 'value')
    assert {*rows[0]} == {'file', 'number', 'name', 'value'}
    assert [['ab'[index] for index in row['number']] for row in rows] == [row['name'] for row in rows]
    assert all(row['value'][0] >= row['value'][1] for row in rows)
    rows, _ = predict('--topk', '2', '--results-separate-col', '--exclude-output')
    assert {*rows[0]} == {'filename', 'label_0', 'label_1'}
    rows, printed = predict('--topk', '0', '--no-console-results', '--label-type', 'none')
    assert {*rows[0]} == {'filename', 'prob'} and all(sum(row['prob']) == pytest.approx(1, abs=1e-4) for row in rows)
    assert '--result' not in printed.out


def test_csv_and_parquet_hold_the_same_as_json(trained, predict, tmp_path):
    expected, _ = predict()
    pyarrow = pytest.importorskip('pyarrow.parquet')
    predict('--results-format', 'json-record', 'csv', 'parquet')
    with (tmp_path / 'out.csv').open(newline='') as file:
        rows = [{**row, 'prob': float(row['prob'])} for row in csv.DictReader(file)]
    assert rows == expected
    assert pyarrow.read_table(tmp_path / 'out.parquet').to_pylist() == expected


def test_csv_has_lists_as_json(predict, tmp_path):
    expected, _ = predict('--topk', '2')
    predict('--topk', '2', '--results-format', 'csv')
    with (tmp_path / 'out.csv').open(newline='') as file:
        rows = [{**row, 'label': json.loads(row['label']), 'prob': json.loads(row['prob'])}
                for row in csv.DictReader(file)]
    assert rows == expected


def test_images_with_several_labels_get_sigmoid(trained, predict, tmp_path):
    _, run, _ = trained
    state = torch.load(run / 'last.pth.tar', weights_only=False)
    state['args'].task = 'multilabel'
    torch.save(state, tmp_path / 'several.pth.tar')
    logits, _ = predict('--topk', '0', '--output-type', 'logit')
    found, _ = predict('--topk', '0', checkpoint=tmp_path / 'several.pth.tar')
    for row, raw in zip(found, logits):
        assert row['prob'] == pytest.approx(torch.tensor(raw['prob' if 'prob' in raw else 'logit']).sigmoid().tolist(),
                                            abs=1e-4)
    assert predict('--topk', '0', '--task', 'multilabel')[0] == found


def test_labels_of_imagenet_and_of_a_class_map(trained, predict, tmp_path):
    torch.save(timm.create_model('resnet20_cifar', num_classes=1000).state_dict(), tmp_path / 'net.pth')
    more = ['--model', 'resnet20_cifar', '--num-classes', '1000', '--img-size', '16', '--include-index']
    info = ImageNetInfo('imagenet-1k')
    for kind, text in (('name', info.index_to_label_name), ('description', info.index_to_description)):
        rows, _ = predict(*more, '--label-type', kind, checkpoint=tmp_path / 'net.pth')
        assert [row['label'] for row in rows] == [text(row['index']) for row in rows]
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    named, _ = predict('--class-map', str(tmp_path / 'names.txt'))
    assert [row['label'] for row in named] == [
        {'a': 'cat', 'b': 'dog'}[row['label']] for row in predict()[0]]


def test_the_contact_sheet_shows_the_surest_and_the_least_sure(predict, tmp_path):
    predict('--contact-sheet', str(tmp_path / 'sheet.png'))
    with Image.open(tmp_path / 'sheet.png') as sheet:
        assert sheet.format == 'PNG' and sheet.width > 6 * 128 and sheet.height > 2 * 128
    sureness = torch.tensor([.5, .9, .7, .99, .6])
    assert choose(sureness, set(), 4) == ([3, 1], [0, 4])
    assert choose(sureness, {3}, 24) == ([1, 2], [0, 4])
    assert choose(sureness[:1], set(), 24) == ([0], [])


def test_a_sub_network_predicts_as_when_it_is_extracted(trained, predict, tmp_path):
    from gradaug_timm.extraction.main import main as extract
    root, run, _ = trained
    common = ['--width', '.5', '--recalibration-batches', '2', '--batch-size', '4']
    rows, _ = predict(*common, '--train-dir', str(root / 'data'), checkpoint=run / 'last.pth.tar')
    small = tmp_path / 'small.safetensors'
    extract([str(run / 'last.pth.tar'), *common, '--data-dir', str(root / 'data'), '--output', str(small),
             '--workers', '0', '--device', 'cpu'])
    expected, _ = predict(checkpoint=small)
    assert [row['prob'] for row in rows] == pytest.approx([row['prob'] for row in expected], abs=1e-4)
    assert rows == predict(*common, '--train-dir', str(root / 'data' / 'train'), checkpoint=run / 'last.pth.tar')[0]
    assert rows != predict(checkpoint=run / 'last.pth.tar')[0]


@pytest.mark.parametrize(('more', 'message'), [
    (['--data-dir', 'nowhere'], '--data-dir nowhere does not exist'),
    (['--width', '.5', '.6'], 'must be one width'),
    (['--train-dir', '.'], '--train-dir needs --width'),
    (['--results-dir', __file__], 'cannot be created'),
    (['--results-format', 'json', 'json-split'], 'names two formats of the same file'),
    (['--results-format', 'xml'], 'xml'),
    (['--exclude-output', '--topk', '0'], '--exclude-output needs --topk'),
    (['--label-col', 'prob'], 'need different names'),
    (['--checkpoint', 'nowhere'], 'nowhere does not exist'),
    (['--checkpoint', '.'], '. has none of model_best.safetensors'),
    (['--torchscript'], 'TorchScript is deprecated'),
    (['--contact-sheet', 'sheet.jpg'], 'must end in .png'),
])
def test_wrong_flags_end_in_one_line(more, message, trained, tmp_path, monkeypatch, capsys):
    _, run, flat = trained
    monkeypatch.chdir(tmp_path)
    argv = ['--checkpoint', run, '--data-dir', flat, '--workers', '0', '--device', 'cpu', *more]
    assert message in refused(capsys, argv)


def test_a_missing_package_is_named_by_its_extra(trained, monkeypatch, capsys):
    from gradaug_timm.predict import arguments
    monkeypatch.setattr(arguments.importlib.util, 'find_spec', lambda name: None)
    _, run, flat = trained
    line = refused(capsys, ['--checkpoint', run, '--data-dir', flat, '--results-format', 'parquet'])
    assert 'parquet needs the package pyarrow: pip install "gradaug_timm[predict]"' in line


@pytest.mark.parametrize(('paths', 'wanted'), [
    (None, ['00000000', '00000001']),
    ([None, None], ['00000000', '00000001']),
    (['x/a.png', 'x/b.png'], ['a.png', 'b.png']),
    (['x/a.png', 'y/a.png'], ['x/a.png', 'y/a.png']),
    (['x/a.png', 'x/a.png'], ['00000000', '00000001']),
])
def test_names_are_unique_and_numbers_where_there_are_no_files(paths, wanted):
    dataset = TensorDataset(torch.zeros(2, 1))
    if paths is not None:
        dataset.filename = lambda index, basename: (paths[index] or '')[2 * basename:] or None
    assert names_of(Marked(dataset, 'RGB'), full=False) == wanted


def test_a_table_needs_no_labels(trained, predict, tmp_path):
    datasets = pytest.importorskip('datasets')
    _, _, flat = trained
    expected, _ = predict()
    images = {'picture': [{'bytes': (flat / row['filename']).read_bytes(), 'path': None} for row in expected]}
    table = datasets.Dataset.from_dict(images, features=datasets.Features({'picture': datasets.Image()}))
    table.to_parquet(tmp_path / 'hub' / 'test.parquet')
    rows, _ = predict('--dataset', f'hfds/{tmp_path}/hub', '--split', 'test', '--input-key', 'picture',
                      data=tmp_path / 'cache')
    assert rows == [{**row, 'filename': f'{index:08d}'} for index, row in enumerate(expected)]


def test_class_folders_that_are_named_by_wordnet_have_words(tmp_path):
    network = timm.create_model('resnet20_cifar', num_classes=3)
    trained = Trained(network, {}, '', class_names=('n01440764', 'n00000000'))
    assert label_texts(trained, 'description') == ['tench, Tinca tinca', 'n00000000', '2']
    trained = replace(trained, class_names=('n01440764', 'n02123045'))
    assert label_texts(trained, 'description') == ['tench, Tinca tinca', 'tabby, tabby cat', '2']
    assert label_texts(trained, 'name') == ['n01440764', 'n02123045', '2']


def test_images_are_read_in_the_mode_of_the_training(trained, predict):
    _, run, flat = trained
    with safe_open(run / 'model_best.safetensors', 'pt') as file:
        metadata, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    args = {**json.loads(metadata['train_args']), 'in_chans': 4, 'input_img_mode': 'RGBA'}
    weights['conv1.weight'] = torch.cat([weights['conv1.weight'], torch.zeros_like(weights['conv1.weight'][:, :1])], 1)
    path = flat.parent / 'four.safetensors'
    save_file(weights, path, {**metadata, 'train_args': json.dumps(args)})
    assert len(predict(checkpoint=path)[0]) == 3


def test_the_folder_of_results_is_created(trained, tmp_path):
    _, run, flat = trained
    main(['--checkpoint', str(run), '--data-dir', str(flat), '--workers', '0', '--device', 'cpu', '--results-dir',
          str(tmp_path / 'new' / 'folder'), '--results-file', 'in/it', '--no-console-results'])
    assert (tmp_path / 'new' / 'folder' / 'in' / 'it.csv').is_file()
