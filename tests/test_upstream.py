"""The private parts of timm, torch and argparse in `gradaug_timm.upstream` still behave as the package needs.

A failing test names the part that a library has changed. The last tests check the rule that private parts of
libraries are used only in upstream.py.
"""
import argparse
import ast
import importlib
import io
import json
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import timm.layers
import torch
from PIL import Image
from timm.data import ImageDataset
from timm.data import create_dataset as create_timm_dataset
from timm.data.readers import create_reader
from timm.models.efficientformer import Attention
from timm.scheduler import PlateauLRScheduler
from timm.task import FeatureDistillationTask, LogitDistillationTask, TokenDistillationTask
from timm.utils import CheckpointSaver, NativeScaler
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.nn.utils import prune
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, SequentialSampler
from torch.utils.flop_counter import FlopCounterMode

from gradaug_timm import upstream
from gradaug_timm.task import loss_scale

PACKAGE = Path(upstream.__file__).parent
CPU = torch.device('cpu')


# argparse

@pytest.fixture
def parser() -> upstream.HookedParser:
    parser = upstream.HookedParser()
    parser.add_argument('-a', '--alpha', type=int, choices=[1, 2])
    parser.add_argument('--beta', dest='second', nargs='+', type=float)
    parser.add_argument('file')
    return parser


def test_a_parser_lists_its_flags_by_destination_and_by_spelling(parser):
    actions = upstream.parser_actions(parser)
    assert list(actions) == ['help', 'alpha', 'second', 'file'] and actions['alpha'].choices == [1, 2]
    flags = upstream.parser_flags(parser)
    assert list(flags) == ['-h', '--help', '-a', '--alpha', '--beta']
    assert flags['-a'] is flags['--alpha'] and flags['-a'].dest == 'alpha'


def test_one_text_is_converted_and_checked_as_a_command_line_would(parser):
    alpha = upstream.parser_actions(parser)['alpha']
    assert upstream.convert_text(parser, alpha, '2') == 2
    with pytest.raises(argparse.ArgumentError, match="invalid int value: 'two'"):
        upstream.convert_text(parser, alpha, 'two')
    assert upstream.check_choice(parser, alpha, 2) == 2
    with pytest.raises(argparse.ArgumentError, match='invalid choice: 3'):
        upstream.check_choice(parser, alpha, 3)


def test_a_parser_asks_its_hooks_for_every_value():
    calls = []

    class Noting(upstream.HookedParser):
        def convert_flag(self, action, texts):
            calls.append((action.dest, [*texts]))
            return super().convert_flag(action, texts)

        def check_flag(self, action, value):
            calls.append((action.dest, value))
            super().check_flag(action, value)

    parser = Noting()
    parser.add_argument('--alpha', type=int, choices=[1, 2])
    parser.add_argument('file')
    assert vars(parser.parse_args(['--alpha', '1', 'name'])) == {'alpha': 1, 'file': 'name'}
    assert [call for call in calls if call[0] == 'alpha'] == [('alpha', ['1']), ('alpha', 1)]
    assert ('file', ['name']) in calls


# torch.nn

@pytest.mark.parametrize('dims', [1, 2, 3])
def test_layers_of_all_dimensions_share_their_bases(dims):
    batch_norm, instance_norm = (getattr(nn, f'{kind}Norm{dims}d')(2) for kind in ('Batch', 'Instance'))
    assert isinstance(batch_norm, upstream.AnyBatchNorm) and not isinstance(instance_norm, upstream.AnyBatchNorm)
    assert isinstance(batch_norm, upstream.AnyRunningNorm) and isinstance(instance_norm, upstream.AnyRunningNorm)
    for kind in ('Conv', 'ConvTranspose'):
        assert isinstance(getattr(nn, f'{kind}{dims}d')(1, 2, 3), upstream.AnyConvolution)


def test_other_layers_have_other_bases():
    assert isinstance(nn.SyncBatchNorm(2), upstream.AnyBatchNorm)
    assert isinstance(timm.layers.BatchNormAct2d(2), upstream.AnyBatchNorm)
    for layer in (nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.Linear(1, 2)):
        assert not isinstance(layer, (upstream.AnyRunningNorm, upstream.AnyConvolution))


def test_tables_of_a_module_show_all_that_it_holds_and_writing_to_them_changes_it():
    module = nn.BatchNorm1d(2)
    module.register_parameter('absent', None)
    module.twice = module.weight
    assert list(upstream.own_parameters(module)) == ['weight', 'bias', 'absent', 'twice']
    assert list(upstream.own_buffers(module)) == ['running_mean', 'running_var', 'num_batches_tracked']
    upstream.own_parameters(module)['weight'] = nn.Parameter(torch.full((2,), 3.))
    upstream.own_buffers(module)['running_mean'] = torch.ones(2)
    torch.testing.assert_close(module.eval()(torch.ones(1, 2)), torch.zeros(1, 2))
    torch.testing.assert_close(module(torch.full((1, 2), 2.)), torch.full((1, 2), 3.), atol=1e-4, rtol=0)

    act = nn.ReLU()
    parent = nn.Sequential(act, act)
    parent.register_module('absent', None)
    assert upstream.own_modules(parent) == {'0': act, '1': act, 'absent': None}


def test_tables_of_a_module_are_attributes_of_these_names():
    module = nn.BatchNorm1d(2)
    assert getattr(module, upstream.PARAMETERS) is upstream.own_parameters(module)
    assert getattr(module, upstream.BUFFERS) is upstream.own_buffers(module)


def test_attributes_of_any_module_are_known():
    module = nn.Linear(2, 3)
    module.compile(backend='eager')
    assert vars(module).keys() - upstream.MODULE_ATTRIBUTES == {'in_features', 'out_features'}


def test_removed_forward_hooks_are_not_called():
    module, calls = nn.Identity(), []
    module.register_forward_hook(lambda *_: calls.append(1))
    module.register_forward_hook(lambda *_: calls.append(2), always_call=True)
    module.register_forward_hook(lambda *_: calls.append(3), with_kwargs=True)
    module.register_forward_pre_hook(lambda *_: calls.append(4))
    module.register_forward_pre_hook(lambda *_: calls.append(5), with_kwargs=True)
    module(1)
    assert sorted(calls) == [1, 2, 3, 4, 5]
    upstream.remove_forward_hooks(module)
    module(1)
    assert len(calls) == 5


def test_gradient_hooks_are_seen_while_they_are_there():
    parameters = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]
    parameters[0].register_post_accumulate_grad_hook(lambda _: None)
    assert not upstream.have_gradient_hooks(parameters)
    handle = parameters[1].register_hook(lambda gradient: gradient)
    assert upstream.have_gradient_hooks(parameters)
    handle.remove()
    assert not upstream.have_gradient_hooks(parameters)


# torch's kernels

def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in ((3,), (2, 4), ())]


def test_lists_of_tensors_are_added_multiplied_and_copied_in_place():
    changed, others = tensors(), [tensor + 1 for tensor in tensors()]
    upstream.foreach_add_(changed, others)
    torch.testing.assert_close(changed, [2 * tensor + 1 for tensor in tensors()])
    upstream.foreach_mul_(changed, torch.tensor(3.))
    torch.testing.assert_close(changed, [6 * tensor + 3 for tensor in tensors()])
    upstream.foreach_copy_(changed, others)
    torch.testing.assert_close(changed, others)


@pytest.mark.parametrize('value', [2., -5., float('inf'), float('nan')])
def test_largest_magnitudes_of_a_list_are_vector_norms(value):
    list_of = [*tensors(), torch.tensor([1., value])]
    expected = [torch.linalg.vector_norm(tensor, float('inf')) for tensor in list_of]
    torch.testing.assert_close(list(upstream.foreach_norm(list_of, float('inf'))), expected, equal_nan=True)


@pytest.mark.parametrize('value, found', [(1., 0.), (float('inf'), 1.), (float('nan'), 1.)])
def test_gradients_are_unscaled_in_place_and_an_overflow_is_found(value, found):
    gradients, overflow = [*tensors(), torch.tensor([value, 4.])], torch.zeros(())
    upstream.foreach_unscale_(gradients, overflow, torch.tensor(0.5))
    torch.testing.assert_close(gradients[:3], [tensor / 2 for tensor in tensors()])
    assert gradients[3][1] == 2 and overflow == found


def test_a_scale_halves_after_an_overflow_and_doubles_after_an_interval_without():
    scale, growth = torch.tensor(8.), torch.tensor(0, dtype=torch.int32)
    seen = []
    for overflow in (1., 0., 0., 0., 1.):
        upstream.update_scale_(scale, growth, torch.tensor(overflow), 2., 0.5, 3)
        seen.append((scale.item(), growth.item()))
    assert seen == [(4., 0), (4., 1), (4., 2), (8., 0), (4., 0)]


def test_the_layout_of_a_tensor_is_told():
    images = torch.zeros(2, 3, 4, 4)
    assert upstream.suggest_memory_format(images) == torch.contiguous_format
    assert upstream.suggest_memory_format(images.to(memory_format=torch.channels_last)) == torch.channels_last


def test_the_tensor_of_a_loss_scaler_is_its_scale_and_halves_after_an_overflow():
    scaler, weight = NativeScaler(device='cpu'), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.)
    assert upstream.loss_scale_tensor(scaler) is None
    scaler((weight * 1.).sum(), optimizer)
    scale = upstream.loss_scale_tensor(scaler).clone()
    assert scale.dim() == 0 and scale.dtype == torch.float32 and scale == 2. ** 16
    optimizer.zero_grad()
    scaler((weight * float('inf')).sum(), optimizer)
    assert upstream.loss_scale_tensor(scaler) == scale / 2


def test_our_loss_scale_has_the_numbers_of_torchs_own():
    scaler = torch.amp.GradScaler('cpu')
    assert (scaler.get_scale(), scaler.get_growth_factor(), scaler.get_backoff_factor(),
            scaler.get_growth_interval()) == (
        loss_scale.INITIAL_SCALE, loss_scale.GROWTH_FACTOR, loss_scale.BACKOFF_FACTOR, loss_scale.GROWTH_INTERVAL)


@torch.no_grad()
def test_operations_are_counted_as_torch_counts_them():
    network = timm.create_model('test_vit').eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, 3, 160, 160))
    with upstream.FlopCount() as count:
        network(torch.zeros(2, 3, 160, 160))
    assert count.total == counter.get_total_flops() > 0


# torch.compile

def test_modes_of_compilation_are_those_that_it_takes():
    modes = upstream.compile_modes()
    assert {'default', 'reduce-overhead', 'max-autotune'} <= {*modes}
    for mode in modes:
        torch.compile(nn.Identity(), mode=mode)
    with pytest.raises(RuntimeError, match='nonsense'):
        torch.compile(nn.Identity(), mode='nonsense')


def test_a_compiled_network_is_known_and_unwrapped():
    network = nn.Linear(1, 1)
    wrapper = torch.compile(network, backend='eager')
    assert upstream.is_compiled(wrapper) and not upstream.is_compiled(network)
    assert upstream.compiled_network(wrapper) is network


def test_graphs_and_their_breaks_are_counted():
    @torch.compiler.disable
    def uncompiled(x):
        return x + 1

    before, breaks = upstream.graphs_made(), upstream.graph_breaks()
    torch.compile(lambda x: x * 2, backend='eager')(torch.ones(2))
    assert (upstream.graphs_made() - before, upstream.graph_breaks() - breaks) == (1, 0)
    torch.compile(lambda x: uncompiled(x * 3) * 4, backend='eager')(torch.ones(2))
    assert (upstream.graphs_made() - before, upstream.graph_breaks() - breaks) == (3, 1)


def test_one_graph_more_than_the_limit_is_an_error_and_the_limit_ends_with_its_context():
    def function(x):
        return x * 5

    before, compiled = upstream.recompile_limit(), torch.compile(function, backend='eager', dynamic=False)
    with upstream.recompile_limited(2):
        assert upstream.recompile_limit() == 2
        compiled(torch.ones(2)), compiled(torch.ones(3))
        with pytest.raises(upstream.recompile_limit_error()):
            compiled(torch.ones(4))
    assert upstream.recompile_limit() == before is None


def test_the_limit_has_the_names_of_torch_2_6_too(monkeypatch):
    patched = {}
    config = SimpleNamespace(
        cache_size_limit=8, accumulated_cache_size_limit=256, fail_on_cache_limit_hit=True, patch=patched.update)
    monkeypatch.setattr(torch._dynamo, 'config', config)
    assert upstream.recompile_limit() == 8
    upstream.recompile_limited(300)
    assert patched == {
        'cache_size_limit': 300, 'accumulated_cache_size_limit': 300, 'fail_on_cache_limit_hit': True}


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
    upstream.restart_workers(loader)
    assert values() == {2}


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


# timm's networks

def test_features_are_taken_by_number_or_by_index():
    assert upstream.feature_take_indices(4, 2) == ([2, 3], 3)
    assert upstream.feature_take_indices(4, [0, -2]) == ([0, 2], 2)
    assert upstream.feature_take_indices(4, None) == ([0, 1, 2, 3], 3)


def test_what_modules_compute_from_parameters_is_where_we_look_for_it():
    attention, images = Attention(8, key_dim=4, num_heads=2, resolution=2), torch.zeros(1, 4, 8)
    with torch.no_grad():
        attention.eval()
        attention(images)
    filled = {name for name, value in vars(attention).items() if isinstance(value, dict) and any(
        isinstance(each, torch.Tensor) and not isinstance(each, nn.Parameter) for each in value.values())}
    assert filled - upstream.MODULE_ATTRIBUTES == upstream.PARAMETER_CACHES
    attention.train()
    assert not any(vars(attention)[name] for name in upstream.PARAMETER_CACHES)


def test_activation_checkpointing_is_seen_and_switched_off():
    network, calls = timm.create_model('test_vit', num_classes=2), []
    network.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))

    def count() -> int:
        calls.clear()
        network(torch.zeros(1, 3, 160, 160)).sum().backward()
        return len(calls)

    assert not any(map(upstream.recomputes, network.modules())) and count() == 1
    network.set_grad_checkpointing(True)
    assert any(map(upstream.recomputes, network.modules())) and count() == 2
    for module in network.modules():
        upstream.stop_recomputing(module)
    assert not any(map(upstream.recomputes, network.modules())) and count() == 1


# timm's training

def test_one_process_is_described_by_its_device_and_place(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    found = upstream.init_distributed_device_so('cpu')
    assert (found['device'], found['global_rank'], found['world_size'], found['distributed']) == ('cpu', 0, 1, False)


@pytest.mark.parametrize('kind', [LogitDistillationTask, FeatureDistillationTask, TokenDistillationTask])
def test_a_distillation_task_shows_its_teacher_and_how_the_students_images_are_normalised(kind):
    name = 'deit_tiny_distilled_patch16_224' if kind is TokenDistillationTask else 'test_vit'
    student = timm.create_model(name, num_classes=2, **({} if name == 'test_vit' else {'depth': 1}))
    teacher = timm.create_model('test_vit', num_classes=2)
    task = kind(student, teacher, criterion=nn.CrossEntropyLoss(), device=CPU, verbose=False)
    assert upstream.teacher_of(task) is teacher
    seen = []
    monitored = task.teacher
    normalize = monitored.normalize_input
    monitored.normalize_input = lambda *args: seen.append(normalize(*args)) or seen[-1]
    size = student.pretrained_cfg['input_size'][-1]
    for values in ((0.5,) * 3, (0.25,) * 3):
        upstream.set_student_normalization(task, mean=values, std=values)
        if kind is not TokenDistillationTask:  # whose teacher takes images of another size
            task(torch.zeros(2, 3, size, size), torch.tensor([0, 1]))
    assert torch.equal(task.student_mean, torch.full((1, 3, 1, 1), 0.25))
    if seen:  # a black image has the value `mean` where the student sees 0
        torch.testing.assert_close(seen[0] - seen[1], (0.25 / monitored.std_kd).expand_as(seen[0]))


@pytest.mark.filterwarnings('ignore:PlateauLRScheduler:FutureWarning')
def test_a_schedule_that_follows_the_metric_is_continued():
    def schedule() -> PlateauLRScheduler:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.)
        return PlateauLRScheduler(optimizer, patience_t=1, cooldown_t=1, decay_rate=0.5, noise_range_t=2)

    def rates(scheduler: PlateauLRScheduler, epochs: range) -> Iterator[float]:
        for epoch in epochs:
            scheduler.step(epoch, [0., 3., 2., 2., 2., 2., 2., 2., 2., 1., 1.][epoch])
            yield scheduler.optimizer.param_groups[0]['lr']

    whole = list(rates(schedule(), range(1, 11)))
    assert len({*whole}) > 4
    for cut in range(2, 11):
        first, second = schedule(), schedule()
        begun = list(rates(first, range(1, cut)))
        upstream.load_plateau_state(second, upstream.plateau_state(first))
        assert [*begun, *rates(second, range(cut, 11))] == whole


# timm's checkpoints

@pytest.mark.parametrize('decreasing', [False, True])
def test_ranked_checkpoints_are_named_sorted_and_the_worst_makes_room(tmp_path, decreasing):
    saver = CheckpointSaver(nn.Identity(), None, checkpoint_dir=str(tmp_path), max_history=2, decreasing=decreasing)
    paths = [upstream.ranked_path(saver, epoch) for epoch in range(3)]
    assert paths == [str(tmp_path / f'checkpoint-{epoch}.pth.tar') for epoch in range(3)]
    metrics = [1., 2., 3.] if not decreasing else [3., 2., 1.]
    for epoch, (path, metric) in enumerate(zip(paths, metrics)):
        upstream.make_room(saver)
        Path(path).write_text('weights')
        upstream.rank_checkpoint(saver, path, epoch, metric)
        assert (saver.best_epoch, saver.best_metric) == (epoch, metric)
    assert saver.checkpoint_files == [(paths[2], metrics[2]), (paths[1], metrics[1])]
    assert [Path(path).exists() for path in paths] == [False, True, True], 'nothing else is deleted or written'
    assert len(list(tmp_path.iterdir())) == 2


# The rule

DOCUMENTED = {'_replace', '_asdict', '_fields', '_make'}  # of named tuples, in Python's documentation
LIBRARIES = {
    private for each in (
        argparse.ArgumentParser(), argparse.Action('', ''), nn.Module(), torch.zeros(0), torch, torch.optim.SGD,
        torch.amp.GradScaler('cpu'), NativeScaler('cpu'), DataLoader([0]), upstream.MultiEpochsDataLoader([0]),
        DistributedSampler([0], 1, 0), RandomSampler([0]), CheckpointSaver, ImageDataset, PlateauLRScheduler,
        LogitDistillationTask, nn.parallel.DistributedDataParallel, torch.compile(nn.Identity()))
    for private in dir(each) if private.startswith('_') and not private.endswith('__')}


def is_private(name: str) -> bool:
    return name.startswith('_') and name != '_' and not name.endswith('__') and name not in DOCUMENTED


def own_names(tree: ast.AST) -> set[str]:
    """Private names that a module defines: functions, classes, variables, and attributes of `self` and `cls`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            found.add(node.attr)
    return set(filter(is_private, found))


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ('self', 'cls')


def foreign_privates(tree: ast.AST, ours: set[str]) -> list[str]:
    """Uses of private names but `ours`, without those of libraries; on `self` also those that this file itself sets."""
    here, found = own_names(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            allowed = here if is_self(node.value) else set()
            if node.attr not in allowed | (ours - LIBRARIES):
                found.append(f'{node.lineno}: {ast.unparse(node)}')
        elif isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, 'level', 0):
            names = [*(alias.name for alias in node.names), getattr(node, 'module', None) or '']
            if any(map(is_private, '.'.join(names).split('.'))):
                found.append(f'{node.lineno}: {ast.unparse(node)}')
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in LIBRARIES:
            found.append(f'{node.lineno}: {node.value!r}')
    return found


def trees() -> dict[str, ast.AST]:
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding='utf-8'))
            for path in sorted(PACKAGE.rglob('*.py')) if path.name != Path(upstream.__file__).name
            or path.parent != PACKAGE}


def test_private_parts_of_libraries_are_used_in_upstream_alone():
    files = trees()
    ours = set().union(*map(own_names, files.values()))
    found = {name: foreign_privates(tree, ours) for name, tree in files.items()}
    found = {name: uses for name, uses in found.items() if uses}
    assert not found, f'move these into upstream.py, each with its reason and a test: {found}'


def test_our_classes_hide_no_private_name_of_a_librarys_class():
    hidden = []
    for name, tree in trees().items():
        if Path(name).name == '__main__.py':
            continue
        parts = [part for part in Path(name).with_suffix('').parts if part != '__init__']
        module = importlib.import_module('.'.join([PACKAGE.name, *parts]))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                bases = [base for base in vars(module)[node.name].__mro__ if PACKAGE.name not in base.__module__]
                hidden += [f'{node.name}.{own}' for own in own_names(node) if any(hasattr(base, own) for base in bases)]
    assert not hidden


@pytest.mark.parametrize('code', [
    'import torch._dynamo', 'from torch._dynamo import x', 'from torch.nn.modules.conv import _ConvNd', 'x._secret',
    'module._parameters', 'self._buffers', 'super()._get_values', 'torch._foreach_add_(a, b)', 'scaler._scaler._scale',
    'loader._iterator = None', "hasattr(network, '_orig_mod')", "vars(module)['_forward_hooks']"])
def test_the_rule_sees(code):
    assert foreign_privates(ast.parse(code), {'_own', '_parameters'})


@pytest.mark.parametrize('code', [
    'self._own', 'other._own', 'super()._own', 'from .files import _own', 'pair._replace(a=1)', 'x.__dict__', '_a = 1',
    'class A:\n    def f(self):\n        self._parameters = []\n    def g(self):\n        return self._parameters'])
def test_the_rule_allows(code):
    assert not foreign_privates(ast.parse(code), {'_own', '_parameters'})


def test_every_part_is_tested_here():
    tree = ast.parse(Path(upstream.__file__).read_text(encoding='utf-8'))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {target.id for node in tree.body if isinstance(node, ast.Assign) for targets in node.targets
                for target in ast.walk(targets) if isinstance(target, ast.Name)} | {*upstream.__all__}
    tested = {node.attr for node in ast.walk(ast.parse(Path(__file__).read_text(encoding='utf-8')))
              if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == 'upstream'}
    assert {name for name in defined if not name.startswith('_')} - tested == {'PLATEAU_COUNTERS'}


def test_every_part_is_used():
    used = set()
    for tree in trees().values():
        used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == 'upstream'
                 for alias in node.names}
    waiting = {'parser_actions', 'convert_text', 'check_choice', 'init_distributed_device_so'}
    own = {'MultiEpochsDataLoader', 'ReaderImageFolder'}
    assert {*upstream.__all__} - used <= waiting | own


def test_hooks_of_torch_name_the_weights_that_they_compute():
    layer = nn.Linear(2, 2)
    assert upstream.pruned_parameters(layer) == upstream.weights_of_hooks(layer) == []
    prune.random_unstructured(layer, 'weight', 0.5)
    prune.random_unstructured(layer, 'bias', 0.5)
    prune.random_unstructured(layer, 'bias', 0.5)  # in a container of methods
    assert upstream.pruned_parameters(layer) == ['weight', 'bias'] and upstream.weights_of_hooks(layer) == []
    assert upstream.weights_of_hooks(nn.utils.spectral_norm(nn.Linear(2, 2))) == ['weight']


def test_quantized_and_sharded_modules_are_recognised_by_class():
    layer = nn.Sequential(nn.Linear(2, 2))
    assert not upstream.is_quantized(layer[0])
    assert not any(map(upstream.is_sharded, (layer[0], layer[0].weight, None)))
    quantized = torch.ao.quantization.quantize_dynamic(layer, {nn.Linear})
    assert upstream.is_quantized(quantized[0])
    assert all(upstream.is_sharded(type(name, (nn.Module,), {})()) for name in upstream.SHARDING)
    assert {FullyShardedDataParallel.__name__, FSDPModule.__name__} < upstream.SHARDING
    layer[0].weight.ds_id = 3  # of DeepSpeed's third stage
    assert upstream.is_sharded(layer[0].weight)
