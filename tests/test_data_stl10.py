"""STL-10 in its own binary form."""
import numpy as np
import pytest

from gradaug_timm.data import create_dataset


def make_files(root):
    folder = root / 'stl10_binary'
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (('train', 6), ('test', 4)):
        random.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f'{split}_X.bin')
        (np.arange(count, dtype=np.uint8) % 3 + 1).tofile(folder / f'{split}_y.bin')
    (folder / 'class_names.txt').write_text('\n'.join('abc'))
    return folder


def test_labels_count_from_zero_and_images_are_those_of_the_file(tmp_path, monkeypatch):
    folder = make_files(tmp_path)
    monkeypatch.setattr('torchvision.datasets.STL10._check_integrity', lambda self: True)
    dataset = create_dataset('gradaug/stl10', root=str(tmp_path), split='train')
    assert dataset.targets == [0, 1, 2, 0, 1, 2]
    image, label = dataset[4]
    stored = np.fromfile(folder / 'train_X.bin', np.uint8).reshape(6, 3, 96, 96)
    assert label == 1
    assert np.array_equal(np.asarray(image), stored[4].transpose(2, 1, 0))  # columns first
    assert len(create_dataset('gradaug/stl10', root=str(tmp_path), split='validation')) == 4


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=f'--data-dir {tmp_path} does not contain --dataset gradaug/stl10'):
        create_dataset('gradaug/stl10', root=str(tmp_path), split='train')
