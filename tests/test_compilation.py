"""torch.compile: one graph per sub-network and shape, and an error instead of running uncompiled."""
import argparse
import copy
import logging
from types import SimpleNamespace

import pytest
import timm
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from train_helpers import arguments, make_image_folder, train

from gradaug_timm import GradAugSettings, GradAugTask, make_elastic
from gradaug_timm.task.compile_limit import Compilation, GraphLimit, count_graphs, graphs_made, most_alike
from gradaug_timm.training import prepare as preparation
from gradaug_timm.training.building.graph_count import expected_graphs
from gradaug_timm.training.loop import epochs as schedule
from gradaug_timm.training.main import main
from gradaug_timm.upstream import recompile_limited

SIZE = 16
GRID = GradAugSettings.preset(  # three widths at two sizes
    SIZE, subnets=3, batch_fraction=1., width_steps=2, divisor=1, sizes=(1.0, 0.75))


LIMITS = ('recompile_limit', 'accumulated_recompile_limit', 'fail_on_recompile_limit_hit')
LIMITS_OF_TORCH_2_6 = ('cache_size_limit', 'accumulated_cache_size_limit', 'fail_on_cache_limit_hit')


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def limits():
    config = torch._dynamo.config
    return [getattr(config, name) for name in (LIMITS if hasattr(config, LIMITS[0]) else LIMITS_OF_TORCH_2_6)]


@pytest.mark.parametrize('given, shapes, graphs', [
    (dict(), [(8, 16, 16)], 1 + 3 * 2),
    (dict(), [(8, 16, 16), (3, 16, 16), (8, 16, 16)], 2 * (1 + 3 * 2)),
    (dict(batch_fraction=0.5), [(8, 16, 16), (7, 16, 16)], 2 + 3 * 2),  # sub-networks see four images of both
    (dict(sizes=(1.0, 0.99, 16)), [(8, 16, 16)], 1 + 3),  # all of them 16 pixels
    (dict(sizes=(16,)), [(8, 16, 16), (8, 24, 24)], 2 + 3),
    (dict(min_width=1), [(8, 16, 16)], 1 + 2),
    (dict(subnets=0), [(8, 16, 16)], 1),
])
def test_graphs_are_counted_by_width_size_and_batch(given, shapes, graphs):
    settings = GradAugSettings(**{'width_steps': 2, 'sizes': (1.0, 0.75), **given})
    assert count_graphs(settings, shapes) == graphs


def tiny_network():
    """A network whose graphs are compiled quickly; because of its dropout no pass repeats the full one."""
    return make_elastic(nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(8, 3)))


def compiled_task(network=None, backend='eager'):
    torch.manual_seed(0)
    network = network or timm.create_model('gradaug_resnet20_cifar', num_classes=3, depth=8)
    task = GradAugTask(network.train(), nn.CrossEntropyLoss(), settings=GRID)
    task.compile(backend=backend)
    return task


def steps(task, number, images=6):
    for _ in range(number):
        task(torch.randn(images, 3, SIZE, SIZE), torch.arange(images) % 3)['loss'].backward()


def test_no_more_graphs_are_made_than_were_counted():
    before = graphs_made()
    task = compiled_task(tiny_network())
    steps(task, 25)
    assert graphs_made() - before == count_graphs(GRID, [(6, SIZE, SIZE)]) == 7
    steps(task, 25, images=5)
    assert graphs_made() - before == count_graphs(GRID, [(6, SIZE, SIZE), (5, SIZE, SIZE)]) == 14


def test_compiled_passes_are_the_uncompiled_ones():
    task = compiled_task()
    plain = GradAugTask(copy.deepcopy(task.trainable_module._orig_mod), nn.CrossEntropyLoss(), settings=GRID)
    for _ in range(2):
        images, target = torch.randn(6, 3, SIZE, SIZE), torch.arange(6) % 3
        result, expected = task(images, target), plain(images, target)
        result['loss'].backward()
        expected['loss'].backward()
        for name, value in expected.items():
            torch.testing.assert_close(result[name], value, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(task.trainable_module.parameters(), plain.trainable_module.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_a_step_has_limits_of_its_own():
    before, during, task = limits(), [], compiled_task(tiny_network())
    task.criterion.register_forward_hook(lambda *_: during.append(limits()[0]))
    others = graphs_made()
    steps(task, 1)
    with GraphLimit(100_000).applied():
        steps(task, 1)
    assert during[0] == others + 4 * (1 + 3 * 2) * most_alike(task.trainable_module)
    assert during[1] >= 100_000 and limits() == before


def test_limits_are_restored_after_an_error():
    before, task = limits(), compiled_task(tiny_network())
    with pytest.raises(RuntimeError):
        task(torch.randn(2, 5, SIZE, SIZE), torch.arange(2))
    assert limits() == before


def test_beyond_the_limit_nothing_runs_without_being_compiled():
    network = torch.compile(nn.Linear(2, 2), backend='eager', dynamic=False)
    limit = GraphLimit(9)
    with limit.applied():
        for images in range(2, 11):
            network(torch.randn(images, 2))
        with pytest.raises(Exception, match='limit_hit'):
            network(torch.randn(11, 2))


class Broken(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x):
        x = self.norm(x[:, :1].expand(-1, self.norm.num_features))
        torch._dynamo.graph_break()
        return x.relu()


def test_repeated_blocks_that_break_are_of_one_function():
    network = nn.Sequential(*map(Broken, range(2, 14)))
    assert most_alike(network) == 12
    compiled = torch.compile(network, backend='eager', dynamic=False)
    with GraphLimit(1).applied(), pytest.raises(Exception, match='limit_hit'):
        compiled(torch.randn(4, 2))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with GraphLimit(12).applied():
        compiled(torch.randn(4, 2))


def test_graphs_of_other_networks_are_not_counted():
    def run(network, images):
        torch.compile(network, backend='eager', dynamic=False)(torch.randn(images, network[0].norm.num_features))
    others = [nn.Sequential(Broken(channels)) for channels in range(2, 14)]
    one, limit = nn.Sequential(Broken(20)), GraphLimit(1)
    with recompile_limited(100):
        for other in others:
            run(other, 4)
    with limit.applied():
        run(one, 4)
    with limit.applied():
        run(one, 4)


def memory_used_again():
    """A backend like CUDA graphs: what a network and its backward gave is written over as the next pass begins."""
    given, waiting = [], [False]

    def compiler(forward):
        def compile_graph(graph, _):
            def run(*args):
                if forward and not waiting[0]:
                    while given:
                        given.pop().data.fill_(float('nan'))
                waiting[0] = forward
                values = [value.clone() if isinstance(value, torch.Tensor) else value for value in graph(*args)]
                given.extend(value for value in values if isinstance(value, torch.Tensor) and value.is_floating_point())
                return values
            return make_boxed_func(run)
        return compile_graph

    return aot_autograd(fw_compiler=compiler(True), bw_compiler=compiler(False))


@pytest.mark.slow
def test_passes_may_use_the_memory_of_earlier_ones_again():
    task = compiled_task(backend=memory_used_again())
    torch.manual_seed(0)
    plain = GradAugTask(
        copy.deepcopy(task.trainable_module._orig_mod), nn.CrossEntropyLoss(), settings=GRID)
    images, target = torch.randn(6, 3, SIZE, SIZE), torch.arange(6) % 3
    result, expected = task(images, target), plain(images, target)
    result['loss'].backward()
    expected['loss'].backward()
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value)
    for ours, theirs in zip(task.trainable_module.parameters(), plain.trainable_module.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def expected(flags, *, train=20, validation=20):
    args = argparse.Namespace(**{
        'batch_size': 8, 'validation_batch_size': None, 'train_img_sizes': None, 'train_batch_sizes': None,
        'keep_last_batch': False, 'model_ema': False, 'model_ema_force_cpu': False, 'kd_model_name': None, **flags})
    loaders = SimpleNamespace(train=loader(train), validation=loader(validation) if validation else None)
    return expected_graphs(args, GRID, loaders, (3, SIZE, SIZE))


def loader(images):
    return SimpleNamespace(dataset=range(images), sampler=range(images))


@pytest.mark.parametrize('flags, validation, graphs', [
    (dict(), 0, 7),
    (dict(), 16, 7 + 1),
    (dict(), 20, 7 + 2),
    (dict(), 3, 7 + 1),
    (dict(validation_batch_size=5), 20, 7 + 1),
    (dict(model_ema=True), 20, 7 + 2 * 2),
    (dict(model_ema=True, model_ema_force_cpu=True), 20, 7 + 2),
    (dict(keep_last_batch=True), 16, 2 * 7 + 1),
    (dict(train_img_sizes=[12, 16, 20], train_batch_sizes=[8, 6, 4]), 16, 3 * 7 + 1),
])
def test_last_batches_and_validation_are_counted(flags, validation, graphs):
    assert expected(flags, validation=validation) == graphs


FLAGS = dict(
    gradaug=True, torchcompile='eager', gradaug_width_steps=2, gradaug_divisor=1, gradaug_sizes=['1', '3/4'],
    drop=0.1, batch_size=4, epochs=3)


@pytest.fixture
def odd_folder(tmp_path):
    """Ten images in training and as many in validation: two batches of four, and two that are left."""
    return make_image_folder(tmp_path / 'data', images=5)


def test_a_run_says_how_many_graphs_it_expects_and_made(odd_folder, tmp_path, caplog):
    before = limits()
    with caplog.at_level(logging.INFO):
        train(odd_folder, tmp_path, model_ema=True, **FLAGS)
    assert limits() == before
    lines = [record.message for record in caplog.records if record.message.startswith('--torchcompile')]
    assert lines[0] == '--torchcompile: at most 11 graphs are to be compiled.'  # 7 in training, 2 * 2 in validation
    made = [int(line.split()[1]) for line in lines[1:]]
    assert made and made == sorted(set(made)) and made[-1] <= 11
    assert all('of at most 11 graphs' in line for line in lines[1:])
    assert not [text for text in caplog.messages if 'graph breaks' in text]


@pytest.mark.slow
def test_a_run_that_compiles_ever_anew_ends_with_one_line(odd_folder, tmp_path, capsys, monkeypatch):
    def train_epoch(run, epoch, between_steps, **_):
        network = run.task.get_trainable_module()
        for images in range(2, 30):
            network(torch.randn(images, 3, SIZE, SIZE))
    monkeypatch.setattr(preparation, 'most_alike', lambda network: 1)
    monkeypatch.setattr(schedule, 'train_epoch', train_epoch)
    with pytest.raises(SystemExit) as ended:
        main(arguments(odd_folder, tmp_path, **FLAGS))
    error = [line for line in capsys.readouterr().err.splitlines() if 'error:' in line]
    assert ended.value.code == 1 and len(error) == 1
    assert 'after 9 graphs the network needs another' in error[0] and 'networks and shapes make 9' in error[0]


def test_what_is_not_compiled_is_told(caplog):
    def broken(x):
        x = x + 1
        torch._dynamo.graph_break()
        return x * 2
    compilation = Compilation(2)
    compilation.report('at first')
    torch.compile(broken, backend='eager')(torch.ones(2))
    with caplog.at_level(logging.INFO):
        compilation.report('now')
        compilation.report('now')
    first, second = (text for text in caplog.messages if text.startswith('--torchcompile'))
    assert first == '--torchcompile: 0 of at most 2 graphs are compiled at first.'
    assert '2 graphs are compiled now' in second and 'graph breaks: 1' in second
