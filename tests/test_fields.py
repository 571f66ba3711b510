"""Fields and labels of data sets are checked before training: one line that says what there is and what to do."""
import json

import pytest
import timm
import torch
from test_unreadable import png, write_shards
from train_helpers import arguments, error_line, make_image_folder

from gradaug_timm import EvaluationSettings, evaluate
from gradaug_timm.data import ReadableDataset, check_channels, check_labels, create_dataset
from gradaug_timm.data.labels import known_labels

LABELS = [number % 4 for number in range(8)]


def table(root, labels=LABELS, feature=None, *, columns=('image', 'label'), broken=()):
    """Parquet files of the splits train and validation, in Hugging Face's layout."""
    datasets = pytest.importorskip('datasets')
    image, label = columns
    feature = {'int': datasets.Value('int64'), 'float': datasets.Value('float64'), 'text': datasets.Value('string'),
               'list': datasets.List(datasets.Value('int64')), 'class': datasets.ClassLabel(names=list('abcd')),
               }[feature or 'int']
    stored = [{'bytes': b'no image' if row in broken else png(row), 'path': f'{row}.png'} for row in range(len(labels))]
    whole = datasets.Dataset.from_dict(
        {image: stored, label: labels}, features=datasets.Features({image: datasets.Image(), label: feature}))
    for split in ('train', 'validation'):
        whole.to_parquet(root / f'{split}-00000-of-00001.parquet')
    return root


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')


def opened(root, kind='hfds', *, classes=4, **kwargs):
    samples = 8 if kind == 'hfids' else None
    dataset = create_dataset(f'{kind}/{root}', str(root.parent / 'cache'), 'train', num_samples=samples, **kwargs)
    check_labels(dataset, classes)
    return dataset


def line_of(root, kind='hfds', **kwargs) -> str:
    with pytest.raises(ValueError) as error:
        opened(root, kind, **kwargs)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('kind', ['hfds', 'hfids'])
def test_fields_of_other_names_are_listed_with_the_flags_that_name_them(tmp_path, kind):
    root = table(tmp_path / 'table', feature='class', columns=('img', 'fine_label'))
    line = line_of(root, kind)
    assert 'has no field image for images: use --input-key img (fields: img (Image), fine_label (' in line
    line = line_of(root, kind, input_key='img')
    assert 'has no field label for labels: use --target-key' in line and '(fields: fine_label (' in line
    assert sorted(label for _, label in opened(root, kind, input_key='img', target_key='fine_label')) == sorted(LABELS)
    if kind == 'hfids':
        assert 'has no images in field fine_label' in line_of(root, kind, input_key='fine_label')


@pytest.mark.parametrize('kind', ['hfds', 'hfids'])
@pytest.mark.parametrize('labels, feature, words', [
    ([label + 1 for label in LABELS], 'int', r'labels are 1 to 4 and must begin with 0: give --class-map FILE'),
    ([None, *LABELS[1:]], 'int', 'some labels are empty'),
    ([-1] * 8, 'int', 'labels are -1 to -1: negative ones mean images without a label'),
    (['cat', 'dog'] * 4, 'text', "labels are text such as 'cat', 'dog': give --class-map FILE"),
    ([0.5] * 8, 'float', 'labels such as 0.5 are no whole numbers'),
    ([[0, 1]] * 8, 'list', 'labels such as [0, 1] are several for an image: use --task multilabel'),
    ([0, 6] * 4, 'int', '--num-classes 4 is too small: the data set has labels 0 to 6; use at least 7'),
])
def test_labels_that_are_no_class_numbers_are_told(tmp_path, kind, labels, feature, words):
    assert words in line_of(table(tmp_path / 'table', labels, feature), kind)


@pytest.mark.parametrize('kind', ['hfds', 'hfids'])
@pytest.mark.parametrize('labels, feature, lines', [
    ([label + 1 for label in LABELS], 'int', '1\n2\n3\n4\n'),
    ([str(label + 1) for label in LABELS], 'text', '1\n2\n3\n4\n'),
    (['abcd'[label] for label in LABELS], 'text', 'a\nb\nc\nd\n'),
])
def test_a_class_map_numbers_other_labels_from_0(tmp_path, kind, labels, feature, lines):
    root, path = table(tmp_path / 'table', labels, feature), tmp_path / 'classes.txt'
    path.write_text(lines)
    assert sorted(label for _, label in opened(root, kind, class_map=str(path))) == sorted(LABELS)
    path.write_text(lines[:-2])
    if kind == 'hfds':
        assert '--class-map has no label' in line_of(root, kind, class_map=str(path))


def test_whole_numbers_that_are_floats_are_labels(tmp_path):
    root = table(tmp_path / 'table', [float(label) for label in LABELS], 'float')
    assert known_labels(opened(root)) == [0, 1, 2, 3]
    for kind in ('hfds', 'hfids'):
        assert {type(label) for _, label in opened(root, kind)} == {int}  # the loss of torch takes no other


@pytest.mark.parametrize('images', ['struct', 'large_binary', 'large_string'])
def test_images_are_read_however_a_table_of_others_stores_them(tmp_path, images):
    arrow, parquet = pytest.importorskip('pyarrow'), pytest.importorskip('pyarrow.parquet')
    contents = [png(row) for row in range(8)]
    for row, content in enumerate(contents):
        (tmp_path / f'{row}.png').write_bytes(content)
    column = {
        'struct': lambda: arrow.array([{'bytes': each, 'path': None} for each in contents]),
        'large_binary': lambda: arrow.array(contents, arrow.large_binary()),
        'large_string': lambda: arrow.array([str(tmp_path / f'{row}.png') for row in range(8)], arrow.large_string()),
    }[images]()
    (tmp_path / 'table').mkdir()
    fields = {'img': column, 'label': arrow.array([{'y': label + 1} for label in LABELS])}
    parquet.write_table(arrow.table(fields), tmp_path / 'table' / 'train-00000-of-00001.parquet')
    (tmp_path / 'map.txt').write_text('1\n2\n3\n4\n')
    for kind in ('hfds', 'hfids'):
        dataset = opened(tmp_path / 'table', kind, input_key='img', target_key='label/y',
                         class_map=str(tmp_path / 'map.txt'))
        found = dataset if kind == 'hfids' else (dataset[index] for index in range(8))
        assert [(image.getpixel((0, 0))[0], label) for image, label in found] == [
            (row * 15, label) for row, label in enumerate(LABELS)]
    if images == 'struct':
        assert 'has no field image for images: use --input-key img (fields: img (Image)' in line_of(
            tmp_path / 'table', 'hfids')


def test_a_damaged_image_in_a_table_is_named_by_its_row(tmp_path):
    dataset = ReadableDataset(opened(table(tmp_path / 'table', broken=(3,))))
    told = []
    dataset.unreadable.add = told.append
    dataset[3]
    assert len(told) == 1 and told[0].startswith('row 3 of split train (3.png) can\'t be read')


@pytest.mark.parametrize('parts, flags, words', [
    ({'png': png(1)}, {}, 'labels are read from cls, and the files of a sample must be neighbours'),
    ({'png': png(1), 'json': json.dumps({'y': 1}).encode()}, {},
     'labels are read from cls: use --target-key with a field of json, such as y'),
    ({'png': png(1), 'json': json.dumps({'y': 1}).encode()}, {'target_key': 'z'},
     '--target-key z must be a field of json: y'),
    ({'png': png(1), 'json': json.dumps({'y': {'z': None}}).encode()}, {'target_key': 'y/z'},
     '--target-key y/z must hold a number, or a list of numbers, not None (the first sample has png, json)'),
    ({'png': png(1), 'json': b'[1]'}, {'target_key': 'z'}, '--target-key z must be a field of json: it has none'),
    ({'png': png(1), 'cls': b'0'}, {'target_key': 'z'}, '--target-key z needs a part json'),
    ({'png': png(1), 'cls': b'cat'}, {}, 'cls must be a number, not b\'cat\''),
    ({'jpeg': png(1), 'cls': b'0'}, {}, 'images are read from jpg;png;webp: use --input-key'),
    ({'png': png(1), 'cls': b'2'}, {}, 'labels are 2 to 2'),
    ({'png': png(1), 'json': json.dumps({'y': [5]}).encode()}, {'target_key': 'y', 'task': 'multilabel'},
     '--task multilabel with --num-classes 2 and --target-key y does not fit the data set'),
])
def test_web_data_sets_without_images_or_labels_end_before_training(tmp_path, capsys, parts, flags, words):
    pytest.importorskip('webdataset')
    root = write_shards(tmp_path / 'shards', [parts] * 4)
    line = error_line(capsys, arguments(root, tmp_path, dataset='wds/any', batch_size=2, **flags))
    assert words in line
    assert not (tmp_path / 'run').exists()


def test_samples_of_other_endings_and_numbers_from_1_are_read_as_asked(tmp_path):
    pytest.importorskip('webdataset')
    samples = [{'jpeg': png(number), 'cls': b'%d' % (1 + number % 2)} for number in range(4)]
    root, path = write_shards(tmp_path / 'shards', samples), tmp_path / 'classes.txt'
    path.write_text('1\n2\n')
    dataset = create_dataset('wds/any', str(root), 'validation', input_key='jpeg', class_map=str(path))
    check_labels(dataset, 2)
    assert sorted(label for _, label in dataset) == [0, 0, 1, 1]


def test_a_network_that_takes_other_channels_than_its_description_says_is_evaluated_with_its_own(tmp_path):
    root = make_image_folder(tmp_path / 'data', splits=('validation',), images=1)
    network = timm.create_model('resnet20_cifar', depth=8, num_classes=2, in_chans=1)
    settings = EvaluationSettings(data_dir=str(root), img_size=16, workers=0, device='cpu', batch_size=2)
    assert evaluate(settings, network)[0]['top5'] == 100
    with pytest.raises(ValueError, match=r'takes images of 1 channel, not of 3: use --in-chans 1'):
        check_channels(network, 3)
    with torch.device('meta'):
        check_channels(timm.create_model('tresnet_m'), 3)  # its first layer moves pixels into channels


@pytest.mark.parametrize('flags, words', [
    (dict(in_chans=4), '--in-chans 4 needs --input-img-mode RGBA or CMYK'),
    (dict(in_chans=2), '--in-chans 2 needs --input-img-mode LA'),
    (dict(in_chans=5), '--in-chans 5 must be 1 to 4'),
    (dict(in_chans=1, input_img_mode='RGB'), 'gives images of 3 channels, but the network takes 1'),
    (dict(input_img_mode='L'), 'gives images of 1 channel, but the network takes 3: use --input-img-mode RGB'),
    (dict(input_img_mode='rgba'), 'rgba must be one of L, P, LA, RGB,'),
    (dict(in_chans=1, input_img_mode='I;16'), '--input-img-mode I;16 is not supported'),
])
def test_modes_and_channels_that_do_not_fit_end_before_training(tmp_path, capsys, flags, words):
    root = make_image_folder(tmp_path / 'data')
    assert words in error_line(capsys, arguments(root, tmp_path / 'run', **flags))
