"""Class maps in the forms that programs write."""
import json
import pickle

import pytest
from train_helpers import make_image_folder

from gradaug_timm.data import class_names, create_dataset
from gradaug_timm.data.class_maps import read_class_map, read_titles


@pytest.mark.parametrize(('name', 'content'), [
    ('map.txt', 'cat\ndog\nemu\n'), ('blank.txt', 'cat\ndog\nemu\n\n\n'), ('windows.txt', 'cat\r\ndog\r\nemu\r\n'),
    ('marked.txt', '\ufeffcat\ndog\nemu'), ('obj.names', 'cat\ndog\nemu\n'), ('classes', 'cat\ndog\nemu\n'),
    ('map.csv', 'cat,0\ndog,1\nemu,2\n'), ('head.csv', 'class,index\nemu,2\ncat,0\ndog,1\n'),
    ('turned.csv', '0,cat\n1,dog\n2,emu\n'), ('list.csv', 'cat\ndog\nemu\n'),
    ('map.json', '{"cat": 0, "dog": 1, "emu": 2}'), ('list.json', '["cat", "dog", "emu"]'),
    ('id2label.json', '{"0": "cat", "1": "dog", "2": "emu"}'),
    ('imagenet.json', '{"2": ["emu", "a bird"], "0": ["cat", "a pet"], "1": ["dog", "a pet"]}'),
    ('map.pkl', pickle.dumps({'cat': 0, 'dog': 1, 'emu': 2})),
])
def test_every_form_numbers_the_same_classes(name, content, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_class_map(str(tmp_path / name)) == {'cat': 0, 'dog': 1, 'emu': 2}
    assert read_class_map(name, str(tmp_path)) == {'cat': 0, 'dog': 1, 'emu': 2}  # in the folder of the data
    assert read_titles(str(tmp_path / name)) == ('cat', 'dog', 'emu')


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('none.txt', None, 'does not exist'), ('empty.txt', '\n', 'has no names of classes'),
    ('twice.txt', 'cat\ndog\ncat\n', "has the class 'cat' twice"), ('broken.json', '{"cat": ', "can't be read"),
    ('other.json', '{"cat": "dog"}', "can't be read"), ('number.json', '3', "can't be read"),
    ('words.csv', 'cat,dog\nemu,fox\n', 'each line must have a name and a label'),
    ('below.csv', 'cat,0\ndog,-1\n', "can't be read"), ('broken.pkl', 'x', "can't be read"),
])
def test_a_map_that_cannot_be_used_is_named_in_one_line(name, content, words, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words) as raised:
        read_class_map(str(tmp_path / name))
    assert f'--class-map {tmp_path / name}' in str(raised.value) and '\n' not in str(raised.value)


def test_names_of_two_classes_are_titles_but_no_labels(tmp_path):
    (tmp_path / 'words.txt').write_text('crane\nheron\ncrane\n')  # ImageNet has a bird and a machine
    assert read_titles(str(tmp_path / 'words.txt')) == ('crane', 'heron', 'crane')


@pytest.mark.parametrize('name', ['', 'torch/image_folder'])
def test_folders_of_both_readers_are_numbered_by_it(name, tmp_path):
    root, path = make_image_folder(tmp_path / 'data', splits=('train',), images=1), tmp_path / 'map.json'
    path.write_text(json.dumps({'b': 0, 'c': 1, 'a': 2}))
    dataset = create_dataset(name, str(root), 'train', class_map=str(path))
    assert sorted(label for _, label in dataset) == [0, 2]
    assert class_names(dataset) == ('b', 'c', 'a')


def test_a_data_set_that_numbers_its_classes_itself_takes_no_map(tmp_path):
    (tmp_path / 'map.txt').write_text('a\n')
    with pytest.raises(ValueError, match='--class-map: --dataset torch/cifar10 numbers its classes itself'):
        create_dataset('torch/cifar10', str(tmp_path), 'train', class_map=str(tmp_path / 'map.txt'))
