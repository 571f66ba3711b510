"""Tar files, web data sets and data sets of Hugging Face, read by two processes; every image has its own label."""
import io
import json
import os
import pickle
import re
import shutil
import tarfile
from itertools import chain

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from processes import free_port, run_ranks
from train_helpers import arguments, error_line, read_summary, train

from gradaug_timm.data import check_shards, check_splits, create_dataset, tars
from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.building.loaders import build_loaders
from gradaug_timm.training.position import Position
from gradaug_timm.training.processes import Precision, start_process

SPLITS = 'train', 'validation'
IMAGES = 16
SHARDS = 4
CONFIG = dict(input_size=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation='bicubic', crop_pct=1.0)


def png(label: int) -> bytes:
    file = io.BytesIO()
    Image.new('RGB', (16, 16), (label * 15, 30, 30)).save(file, 'png')
    return file.getvalue()


def write_tar(path, files: dict[str, bytes]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w') as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The same images as a tar file for each split, one for each class, and shards of a web data set and of parquet."""
    root = tmp_path_factory.mktemp('readers')
    info = {}
    for split in SPLITS:
        write_tar(root / 'splits' / f'{split}.tar', {f'{label:02d}/0.png': png(label) for label in range(IMAGES)})
        for label in range(IMAGES):
            write_tar(root / 'classes' / split / f'{label:02d}.tar', {'0.png': png(label)})
        names = [f'{split}-{shard}.tar' for shard in range(SHARDS)]
        for shard, name in enumerate(names):
            labels = range(shard, IMAGES, SHARDS)
            write_tar(root / 'wds' / name, {
                f'{label}.{kind}': content for label in labels
                for kind, content in (('png', png(label)), ('cls', f'{label}'.encode()))})
        info[split] = {
            'name': split, 'num_samples': IMAGES, 'filenames': names, 'shard_lengths': [IMAGES // SHARDS] * SHARDS}
    (root / 'wds' / '_info.json').write_text(json.dumps({'splits': info}))
    return root


@pytest.fixture(scope='module')
def parquet(folder):
    datasets = pytest.importorskip('datasets')
    for split in SPLITS:
        features = datasets.Features({'image': datasets.Image(), 'label': datasets.Value('int64')})
        images = [{'bytes': png(label), 'path': None} for label in range(IMAGES)]
        whole = datasets.Dataset.from_dict({'image': images, 'label': [*range(IMAGES)]}, features=features)
        for shard in range(SHARDS):
            part = whole.shard(SHARDS, shard)
            part.to_parquet(folder / 'hf' / 'data' / f'{split}-{shard:05d}-of-{SHARDS:05d}.parquet')
    return folder / 'hf'


def command(folder, kind: str, **flags) -> list[str]:
    data = {
        'splits': dict(data_dir=folder / 'splits'),
        'classes': dict(data_dir=folder / 'classes'),
        'wds': dict(data_dir=folder / 'wds', dataset='wds/any'),
        'hfds': dict(data_dir=folder / 'cache', dataset=f'hfds/{folder / "hf"}'),
        'hfids': dict(data_dir=folder / 'cache', dataset=f'hfids/{folder / "hf"}', train_num_samples=16,
                      val_num_samples=16),
    }[kind]
    return arguments(output=folder / 'output', data=None, **{
        'num_classes': 16, 'batch_size': 4, 'workers': 1, 'no_aug': True, **data, **flags})


def read_rank(rank: int, commands: list[list[str]], port: int, out: str) -> None:
    """Writes the labels of two epochs' batches, and checks that the images are those of the labels."""
    torch.set_num_threads(1)
    os.environ.update(RANK=f'{rank}', LOCAL_RANK=f'{rank}', WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', HF_HUB_OFFLINE='1',
                      MASTER_PORT=f'{port}', GLOO_SOCKET_IFNAME='lo')
    found = []
    process = start_process('cpu')
    for argv in commands:
        args, _ = parse_arguments(build_parser(), argv)
        loaders = build_loaders(args, CONFIG, 16, process, Precision(process.device))
        loaders.start_at(Position())
        epochs = []
        for epoch in range(2):
            for part in (loaders.train.dataset, loaders.train.sampler):
                if hasattr(part, 'set_epoch'):
                    part.set_epoch(epoch)
            batches = [*loaders.train]
            for images, labels in batches:
                red = (images[:, 0, 0, 0] * 0.5 + 0.5) * 255
                assert torch.equal(red.round().long(), labels * 15)
            epochs.append([labels.tolist() for _, labels in batches])
        found.append((len(loaders.train), epochs, [labels.tolist() for _, labels in loaders.validation]))
    torch.save(found, f'{out}.{rank}')
    dist.destroy_process_group()


def check_divided(folder, kinds: list[str], tmp_path) -> None:
    commands = [command(folder, kind) for kind in kinds]
    run_ranks(read_rank, commands, free_port(), str(tmp_path / 'out'))
    for kind, *ranks in zip(kinds, *(torch.load(tmp_path / f'out.{rank}') for rank in range(2))):
        orders = set()
        for epoch in range(2):
            batches = [rank[1][epoch] for rank in ranks]
            assert [[len(batch) for batch in own] for own in batches] == [[4, 4]] * 2, kind
            assert all(length == 2 for length, *_ in ranks), kind
            assert sorted(chain(*batches[0], *batches[1])) == [*range(16)], f'{kind}: each image once, in one process'
            orders.add(str(batches))
        assert len(orders) == 2, f'{kind}: another order in each epoch'
        assert sorted(chain(*ranks[0][2], *ranks[1][2])) == [*range(16)], f'{kind}: validation'


@pytest.mark.slow
def test_two_processes_share_the_images_of_tar_files_and_the_shards_of_a_web_data_set(folder, tmp_path):
    pytest.importorskip('webdataset')
    check_divided(folder, ['splits', 'classes', 'wds'], tmp_path)


@pytest.mark.slow
def test_two_processes_share_a_data_set_of_hugging_face(folder, parquet, tmp_path):
    check_divided(folder, ['hfds', 'hfids'], tmp_path)


@pytest.mark.parametrize('kind', ['splits', 'classes', 'wds'])
def test_an_epoch_is_trained_and_validated(folder, tmp_path, kind):
    if kind == 'wds':
        pytest.importorskip('webdataset')
    flags = dict(zip(('data_dir', 'dataset'), (folder / kind, 'wds/any' if kind == 'wds' else None)))
    run = train(flags.pop('data_dir'), tmp_path, num_classes=16, batch_size=4, gradaug=True, gradaug_divisor=4, **flags)
    row = read_summary(run)[0]
    assert float(row['train_loss']) > 0 and float(row['eval_top1']) * 16 % 100 == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize('kind', ['hfds', 'hfids'])
def test_an_epoch_of_a_data_set_of_hugging_face_is_trained_and_validated(folder, parquet, tmp_path, monkeypatch, kind):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    run = train(folder / 'cache', tmp_path, dataset=f'{kind}/{parquet}', num_classes=16, batch_size=4,
                train_num_samples=16, val_num_samples=16)
    row = read_summary(run)[0]
    assert float(row['train_loss']) > 0 and float(row['eval_top1']) * 16 % 100 == pytest.approx(0, abs=1e-3)


def test_images_beside_the_archive_that_they_came_in_are_read_from_their_folders(image_folder, tmp_path):
    for split in ('train', 'validation'):
        os.symlink(image_folder / split, tmp_path / split)
    write_tar(tmp_path / 'archive.tar', {'a/0.png': png(1)})
    assert len(create_dataset('', str(tmp_path), 'train')) == len(create_dataset('', str(image_folder), 'train')) == 24


@pytest.mark.parametrize('leftover', ['train/archive.tar', 'validation/archive.tar', 'val/archive.tar'])
def test_an_archive_left_beside_class_folders_or_in_a_folder_of_its_own_changes_nothing(
        image_folder, tmp_path, leftover):
    for split in ('train', 'validation'):
        shutil.copytree(image_folder / split, tmp_path / split)
    write_tar(tmp_path / leftover, {'a/0.png': png(1)})
    check_splits(str(tmp_path), 'train', 'validation')
    for split, images in (('train', 24), ('validation', 10)):
        assert len(create_dataset('', str(tmp_path), split)) == images
    assert len(create_dataset('', str(tmp_path / 'validation'), 'validation')) == 10


def test_other_folders_beside_the_tar_files_of_splits_are_overlooked(folder, tmp_path):
    shutil.copytree(folder / 'splits', tmp_path, dirs_exist_ok=True)
    (tmp_path / 'output').mkdir()
    assert len(create_dataset('', str(tmp_path), 'train')) == IMAGES


def test_hidden_folders_beside_tar_files_are_overlooked(folder, tmp_path):
    shutil.copytree(folder / 'classes', tmp_path, dirs_exist_ok=True)
    (tmp_path / 'train' / '.cache').mkdir()
    assert len(create_dataset('', str(tmp_path), 'train')) == IMAGES


@pytest.mark.parametrize('name, content', [
    ('train/CLASS.tar', ['./0.png', './1.png']),
    ('train.tar', ['a/0.png', '1.png']),
])
def test_images_in_tar_files_without_a_class_are_refused_with_how_to_pack_them(tmp_path, name, content):
    write_tar(tmp_path / name, {image: png(1) for image in content})
    with pytest.raises(ValueError, match=r'pack a class with `tar cf CLASS\.tar CLASS`'):
        create_dataset('', str(tmp_path), 'train')


def test_a_tar_file_packed_as_the_error_says_has_its_class(tmp_path):
    write_tar(tmp_path / 'train' / 'CLASS.tar', {'CLASS/0.png': png(1)})
    write_tar(tmp_path / 'validation.tar', {'./CLASS/0.png': png(1)})
    for split in ('train', 'validation'):
        assert create_dataset('', str(tmp_path), split).reader.class_name_to_idx == {'CLASS': 0}


@pytest.mark.parametrize('content', ['01\n00\n', '01\n00\n\n'])
def test_a_class_map_is_looked_up_as_given_and_then_in_the_data_folder(folder, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'here.txt').write_text(content)
    (tmp_path / 'there').mkdir()
    shutil.copy(folder / 'splits' / 'train.tar', tmp_path / 'there')
    (tmp_path / 'there' / 'there.txt').write_text(content)
    for name in ('here.txt', 'there.txt'):
        dataset = create_dataset('', str(tmp_path / 'there'), 'train', class_map=name)
        assert [label for _, label in dataset] == [1, 0]


@pytest.mark.parametrize('content', [b'', b'\x80', b'nonsense', pickle.dumps({'tartrees': []}), pickle.dumps([1])])
def test_a_damaged_note_of_what_is_in_tar_files_is_named(folder, tmp_path, monkeypatch, content):
    shutil.copy(folder / 'splits' / 'train.tar', tmp_path)
    note = tmp_path / '_train_tarinfos.pickle'
    note.write_bytes(content)
    monkeypatch.setattr(tars, 'ReaderImageInTar', noting(tars.ReaderImageInTar))
    with pytest.raises(ValueError, match=f'or {re.escape(str(note))} is out of date or damaged'):
        create_dataset('', str(tmp_path), 'train')


def noting(reader):
    """The reader as it is with tar files of over 10 GB."""
    return lambda path, *, cache_tarinfo, **kwargs: reader(path, cache_tarinfo=cache_tarinfo is None, **kwargs)


@pytest.mark.parametrize('kind, note', [
    ('splits', '_train_tarinfos.pickle'), ('classes', 'train/_train_tarinfos.pickle')])
def test_what_is_in_tar_files_is_noted_by_one_process_that_can_write_and_read_by_all(
        folder, tmp_path, monkeypatch, kind, note):
    shutil.copytree(folder / kind, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(tars, 'ReaderImageInTar', noting(tars.ReaderImageInTar))
    note = tmp_path / note
    with monkeypatch.context() as patch:
        patch.setattr(os, 'access', lambda path, mode: False)
        assert len(create_dataset('', str(tmp_path), 'train')) == IMAGES and not note.exists()
    several = {'is_initialized': lambda: True, 'get_world_size': lambda: 2}
    with monkeypatch.context() as patch:
        for name, value in several.items():
            patch.setattr(dist, name, value)
        assert len(create_dataset('', str(tmp_path), 'train')) == IMAGES and not note.exists()
    assert len(create_dataset('', str(tmp_path), 'train')) == IMAGES and note.exists()
    with monkeypatch.context() as patch:
        for name, value in several.items():
            patch.setattr(dist, name, value)
        patch.setattr(tarfile, 'open', None)  # a list of what is there is enough
        assert len(create_dataset('', str(tmp_path), 'train')) == IMAGES


def test_each_data_worker_needs_a_shard_of_a_web_data_set_in_validation_too(folder):
    pytest.importorskip('webdataset')
    dataset = create_dataset('wds/any', str(folder / 'wds'), 'validation')
    check_shards(dataset, 'validation', processes=2, workers=2)
    with pytest.raises(ValueError, match='the validation split needs at least as many shards as data workers, 6'):
        check_shards(dataset, 'validation', processes=3, workers=2)


def test_images_in_tar_files_come_in_the_order_of_their_names(folder):
    write_tar(folder / 'nested' / 'validation.tar', {
        each.name: each.read_bytes() for each in (folder / 'classes' / 'validation').iterdir()})
    for kind in ('splits', 'classes', 'nested'):
        dataset = create_dataset('', str(folder / kind), 'validation')
        assert [label for _, label in dataset] == [*range(16)]
        assert [np.asarray(image)[0, 0, 0] for image, _ in dataset] == [label * 15 for label in range(16)]


@pytest.mark.parametrize('place, flags, words', [
    ('splits/train.tar', {}, 'trained and validated on the same tar files'),
    ('classes/train', {}, 'trained and validated on the same tar files'),
    ('splits', dict(val_split='test'), 'no tar files for split \'test\''),
    ('typo.tar', {}, 'typo.tar does not exist'),
    ('splits', dict(class_map='missing.txt'), '--class-map missing.txt does not exist'),
    ('wds', dict(dataset='wds/any', workers=5), 'the training split needs at least as many shards as data workers, 5'),
    ('wds', dict(dataset='wds/any', train_split='other'), 'split other not found'),
])
def test_data_that_cannot_be_divided_is_refused(capsys, folder, tmp_path, place, flags, words):
    if 'dataset' in flags:
        pytest.importorskip('webdataset')
    flags = {'num_classes': 16, 'batch_size': 4, **flags}
    assert words in error_line(capsys, arguments(folder / place, tmp_path, **flags))


def test_one_tar_file_trains_without_validation(folder, tmp_path):
    run = train(folder / 'splits' / 'train.tar', tmp_path, num_classes=16, batch_size=4, val_split='')
    assert float(read_summary(run)[0]['train_loss']) > 0


def test_a_broken_tar_file_is_named(capsys, tmp_path):
    (tmp_path / 'train.tar').write_bytes(b'no tar')
    line = error_line(capsys, arguments(tmp_path / 'train.tar', tmp_path, val_split=''))
    assert 'train.tar' in line and 'can be read' in line
