"""Private parts of data loaders and data sets in `gradaug_timm.upstream` still behave as the package needs."""
import io
import json
import multiprocessing
import os
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageDataset
from timm.data import create_dataset as create_timm_dataset
from timm.data.readers import create_reader
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, SequentialSampler

from gradaug_timm import upstream

CPU = torch.device('cpu')


# Data loaders

class Values(torch.utils.data.Dataset):
    """Images of one pixel that tell `value`, which workers have a copy of."""
    value = 1

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.full((3, 1, 1), self.value, dtype=torch.uint8), index


def loader_of(kind: type[DataLoader], dataset=None, **kwargs) -> DataLoader:
    return kind(list(range(6)) if dataset is None else dataset, batch_size=2, **kwargs)


def read(loader: DataLoader) -> list[list[int]]:
    return [batch.tolist() for batch in loader]


LOADERS = pytest.mark.parametrize('kind', [DataLoader, upstream.MultiEpochsDataLoader])


@LOADERS
def test_the_batches_of_a_loader_are_replaced(kind):
    loader = loader_of(kind)
    batches = upstream.batch_sampler_of(loader)
    assert type(batches) is BatchSampler and list(batches) == [[0, 1], [2, 3], [4, 5]]
    upstream.replace_batch_sampler(loader, BatchSampler(SequentialSampler(range(4)), 4, False))
    assert len(loader) == 1 and [read(loader) for _ in range(2)] == [[[0, 1, 2, 3]]] * 2


@LOADERS
def test_the_data_set_of_a_loader_is_replaced(kind):
    loader = loader_of(kind)
    upstream.replace_dataset(loader, [10, 11, 12, 13, 14, 15])
    assert read(loader) == [[10, 11], [12, 13], [14, 15]] and loader.dataset[0] == 10


@LOADERS
def test_restarted_workers_see_what_has_changed(kind):
    dataset = Values()
    inner = loader_of(kind, dataset, num_workers=1, persistent_workers=True)
    loader = upstream.PrefetchLoader(inner, mean=(0,) * 3, std=(1 / 255,) * 3, device=CPU)

    def values() -> set[float]:
        return {value for images, _ in loader for value in images.flatten().tolist()}

    assert values() == {1}
    dataset.value = 2
    assert values() == {1}, 'workers live on, with the data set of the first epoch'
    workers = multiprocessing.active_children()
    upstream.end_workers(loader)
    assert workers and not any(worker.is_alive() for worker in workers)
    assert values() == {2}
    upstream.end_workers(loader)
    upstream.end_workers(loader)


def test_a_prefetching_loader_erases_by_what_it_holds():
    inner = loader_of(DataLoader, Values())
    loader = upstream.PrefetchLoader(inner, device=CPU, re_prob=1.)
    assert isinstance(loader.random_erasing, upstream.RandomErasing)
    loader.random_erasing = torch.zeros_like
    assert not any(images.any() for images, _ in loader) and loader.loader is inner


def test_samplers_take_their_next_order_from_what_is_set():
    random = RandomSampler(range(20))
    orders = []
    for seed in (1, 2, 1):
        random.generator = torch.Generator().manual_seed(seed)
        orders.append(list(random))
    assert orders[0] == orders[2] != orders[1]
    distributed = DistributedSampler(range(20), 1, 0, seed=1)
    first = list(distributed)
    distributed.seed = 2
    assert list(distributed) != first and distributed.epoch == 0
    distributed.set_epoch(1)
    assert distributed.epoch == 1
    batches = BatchSampler(SequentialSampler(range(5)), 2, True)
    batches.drop_last = False
    assert len(batches) == len(list(batches)) == 3 and batches.batch_size == 2


def test_an_ordered_share_of_a_data_set_is_padded_from_its_beginning():
    assert [list(upstream.OrderedDistributedSampler(range(5), 2, rank)) for rank in range(2)] == [[0, 2, 4], [1, 3, 0]]


def test_images_are_collated_to_bytes_and_channels_are_filled():
    images, targets = upstream.fast_collate([(np.full((3, 1, 2), value, np.uint8), value) for value in (4, 5)])
    assert images.dtype == torch.uint8 and images[:, 0, 0].tolist() == [[4, 4], [5, 5]] and targets.tolist() == [4, 5]
    assert tuple(upstream.adapt_to_chs((0.1, 0.3), 1)) == pytest.approx((0.2,))
    assert upstream.adapt_to_chs((0.1, 0.2), 2) == (0.1, 0.2)


# Data sets

def png() -> bytes:
    file = io.BytesIO()
    Image.new('RGB', (4, 4)).save(file, 'png')
    return file.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, 'w') as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ('a/0.png', 'a/1.png', 'b/2.png'):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())
    return tmp_path / 'images'


def test_the_reader_of_a_folder_tells_its_images_and_classes(folder):
    dataset = create_timm_dataset('', root=str(folder))
    root, images = upstream.image_places(dataset.reader)
    assert root == str(folder) and images == ['a/0.png', 'a/1.png', 'b/2.png']
    assert isinstance(dataset.reader, upstream.ReaderImageFolder)
    assert upstream.reader_of(dataset).class_to_idx == {'a': 0, 'b': 1}
    assert [label for _, label in upstream.reader_of(dataset).samples] == [0, 0, 1]
    plain = SimpleNamespace()
    assert upstream.reader_of(plain) is plain and upstream.image_places(plain) is None


def test_images_of_a_folder_are_left_out_with_their_class(folder):
    reader = create_timm_dataset('', root=str(folder)).reader
    upstream.keep_samples(reader, [False, True, True], renumber=True)
    assert [(Path(path).name, label) for path, label in reader.samples] == [('1.png', 0), ('2.png', 1)]
    upstream.keep_samples(reader, [False, True], renumber=False)
    assert [label for _, label in reader.samples] == [1] and reader.class_to_idx == {'a': 0, 'b': 1}
    upstream.keep_samples(reader, [True], renumber=True)
    assert [label for _, label in reader.samples] == [0] and reader.class_to_idx == {'b': 0}


def test_images_of_tar_files_are_left_out_with_their_class(tmp_path):
    for name in 'ab':
        write_tar(tmp_path / f'{name}.tar', {f'{name}.png': png()})
    reader = upstream.ReaderImageInTar(str(tmp_path))
    assert upstream.image_places(reader) == (str(tmp_path), ['a/a.png', 'b/b.png'])
    upstream.keep_samples(reader, [False, True], renumber=True)
    assert ImageDataset(str(tmp_path), reader=reader)[0][1] == 0 and len(reader) == 1
    assert reader.class_name_to_idx == {'b': 0} and reader.class_idx_to_name == {0: 'b'}


def test_a_reader_of_tables_tells_the_names_below_a_class_map(tmp_path):
    pytest.importorskip('webdataset')
    from timm.data.readers.reader_wds import ReaderWds
    reader = ReaderWds(str(tmp_path), split='train.tar', num_samples=1, target_key='cat,dog', class_map={0: 1, 1: 0})
    assert upstream.source_names(reader) == {0: 'cat', 1: 'dog'} and reader.class_to_idx == {0: 1, 1: 0}
    assert upstream.source_names(SimpleNamespace()) == {}


def test_images_in_tar_files_are_sorted_with_their_labels_and_noted(tmp_path):
    path = tmp_path / 'train.tar'
    write_tar(path, {'b/2.png': png(), 'a/1.png': png(), 'a/0.png': png()})
    reader = upstream.ReaderImageInTar(str(path), class_map={'a': 5, 'b': 6}, cache_tarinfo=True)
    assert (tmp_path / f'_train{upstream.TAR_NOTES}').exists()
    upstream.sort_tar_samples(reader)
    dataset = ImageDataset(str(path), reader=reader)
    assert [(dataset.filename(index), dataset[index][1]) for index in range(3)] == [
        ('a/0.png', 5), ('a/1.png', 5), ('b/2.png', 6)]
    assert upstream.reader_of(dataset).class_name_to_idx == {'a': 5, 'b': 6} and list(reader.targets) == [5, 5, 6]


@pytest.mark.parametrize('nested', [False, True])
def test_an_open_tar_file_is_not_shared_with_workers(tmp_path, nested):
    contents = {f'{name}/{number}.png': png() + bytes(5000) + name.encode() for name in 'ab' for number in range(3)}
    write_tar(tmp_path / 'train.tar', contents)
    path = tmp_path / 'train.tar'
    if nested:
        path = tmp_path / 'outer.tar'
        write_tar(path, {'train.tar': (tmp_path / 'train.tar').read_bytes()})
    reader = upstream.ReaderImageInTar(str(path))
    read = [reader[index][0].read() for index in range(6)]
    assert read == [*contents.values()]

    def position() -> int:
        return os.lseek(reader.tar_state.tf.fileobj.fileno(), 0, os.SEEK_CUR)

    before = position()
    worker = multiprocessing.get_context('fork').Process(target=lambda: [reader[index][0].read() for index in (4, 1)])
    worker.start()
    worker.join()
    assert worker.exitcode == 0 and position() == before
    assert pickle.loads(pickle.dumps(reader))[4][0].read() == read[4]  # as for a worker that is spawned


def test_an_image_in_tar_files_is_found_by_its_place(tmp_path):
    for folder in ('one', 'several'):
        (tmp_path / folder).mkdir()
    write_tar(tmp_path / 'one' / 'train.tar', {'a/0.png': png()})
    write_tar(tmp_path / 'several' / 'b.tar', {'1.png': png()})
    single, several = (upstream.ReaderImageInTar(str(tmp_path / name)) for name in ('one/train.tar', 'several'))
    assert upstream.tar_place(single, 0) == f'a/0.png in {tmp_path}/one/train.tar'
    assert upstream.tar_place(several, 0) == f'1.png in {tmp_path}/several/b.tar'
    assert upstream.tar_place(object(), 0) is None


def test_a_stream_of_a_web_data_set_tells_what_it_leaves_out(tmp_path):
    pytest.importorskip('webdataset')
    write_tar(tmp_path / '0.tar', {
        '1.png': png(), '1.cls': b'1', '2.png': b'no image', '2.cls': b'2', '3.png': png()})
    reader, told = create_reader('wds/any', str(tmp_path), '0.tar|3'), []
    upstream.prepare_stream(reader, told.append)
    upstream.prepare_stream(reader, None)  # once in a process
    assert [label for _, label in reader] == [1]
    assert [text.split(' (')[0] for text in told] == [
        f'sample {number} of {tmp_path}/0.tar can\'t be read' for number in (2, 3)]


def test_a_stream_of_hugging_face_tells_what_it_leaves_out(tmp_path):
    datasets = pytest.importorskip('datasets')
    images = [{'bytes': content, 'path': path} for content, path in (
        (png(), 'a.png'), (b'no image', 'b.png'), (png(), None))]
    features = datasets.Features({'image': datasets.Image(), 'label': datasets.Value('int64')})
    whole = datasets.Dataset.from_dict({'image': images, 'label': [0, 1, 2]}, features=features)
    whole.to_parquet(tmp_path / 'data' / 'train.parquet')
    reader, told = create_reader(f'hfids/{tmp_path / "data"}', str(tmp_path / 'cache'), 'train', num_samples=3), []
    upstream.prepare_stream(reader, told.append)
    assert [label for _, label in reader] == [0, 2]
    assert len(told) == 1 and told[0].startswith('b.png can\'t be read')


def test_a_file_numbers_classes_by_its_lines(tmp_path):
    (tmp_path / 'classes.txt').write_text('b\na\n')
    assert upstream.load_class_map('classes.txt', str(tmp_path)) == {'b': 0, 'a': 1}


def test_shards_of_a_web_data_set_are_counted(tmp_path):
    pytest.importorskip('webdataset')
    names = [f'train-{shard}.tar' for shard in range(3)]
    for name in names:
        write_tar(tmp_path / name, {'0.png': png(), '0.cls': b'0'})
    split = {'name': 'train', 'num_samples': 3, 'filenames': names, 'shard_lengths': [1] * 3}
    (tmp_path / '_info.json').write_text(json.dumps({'splits': {'train': split}}))
    dataset = create_timm_dataset('wds/any', root=str(tmp_path), split='train', is_training=True, batch_size=1)
    assert upstream.shard_count(dataset) == 3 and upstream.shard_count(Values()) is None
