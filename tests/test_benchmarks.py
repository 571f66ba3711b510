"""The benchmarks measure the quantities that they report."""
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import ddp, evidence_data, floor, loader, memory, peers, presets, scaling, step_time, widths
from benchmarks.case import Case, case_from, case_parser, gradaug_step
from benchmarks.floor import Roofline
from benchmarks.instant import make_instant
from benchmarks.step_time import Passes
from benchmarks.timing import medians, ratio, take_turns
from gradaug_timm.elastic import activate
from gradaug_timm.task.transforms import apply_transform

CPU = torch.device('cpu')
ROOT = Path(__file__).parent.parent
SMALL = ['--model', 'resnet20_cifar', '--size', '16', '--batch', '4', '--classes', '10', '--device', 'cpu',
         '--threads', '1', '--repeats', '2', '--warmup', '1']


def small_case() -> Case:
    return case_from(case_parser('test', '').parse_args(SMALL))


def printed(capsys) -> dict:
    """The line of JSON."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def by_name(rows: list[dict]) -> dict[str, float]:
    return {row['what']: row['value'] for row in rows}


def test_alternatives_are_timed_in_turns_after_a_warm_up():
    order = []
    runs = {name: (lambda number, name=name: order.append((name, number))) for name in 'ab'}
    times = take_turns(runs, repeats=2, warmup=1, device=CPU)
    assert order == [('a', 0), ('b', 0), ('a', 0), ('b', 0), ('a', 1), ('b', 1)]
    assert {name: len(values) for name, values in times.items()} == {'a': 2, 'b': 2}


def test_what_takes_longer_is_measured_as_longer():
    times = take_turns({'short': lambda _: time.sleep(0.01), 'long': lambda _: time.sleep(0.04)},
                       repeats=3, warmup=0, device=CPU)
    assert 10 <= medians(times)['short'] < 30 and 40 <= medians(times)['long'] < 80
    assert 2 < ratio(times, ['long'], ['short']) < 5


def test_a_ratio_is_the_median_over_repetitions_of_sums():
    times = {'step': [6., 10., 100.], 'a': [1., 2., 3.], 'b': [2., 3., 1.]}
    assert ratio(times, ['step'], ['a', 'b']) == 2  # of 2, 2 and 25


def test_dense_passes_compute_what_the_subnetworks_do():
    case = small_case()
    draws = [gradaug_step(case).task.draws(number) for number in range(2)]
    passes = Passes(case, draws)
    for draw in (draw for step in draws for draw in step):
        with activate(passes.network, draw.subnet):
            expected = passes.network(apply_transform(passes.images, draw.transform))
        torch.testing.assert_close(passes.dense[draw.subnet](passes.inputs[draw.transform]), expected)


def test_multiply_adds_of_a_step_are_those_of_the_network_once_for_each_pass_of_its_size():
    case = small_case()
    draw = next(draw for number in range(50) for draw in gradaug_step(case).task.draws(number)
                if draw.subnet.width == 1 and not draw.transform.changes(case.size, case.size))
    assert Passes(case, [[draw, draw]]).relative_multiply_adds() == 3


def test_scripts_are_compared_by_the_wall_and_cpu_seconds_of_their_processes(tmp_path, monkeypatch, capsys):
    for folder, seconds in (('ours', 0.2), ('timm', 0.8)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'validate.py').write_text(
            f'import sys, time\nassert sys.argv[1:] == ["--model", "x"]\n'
            f'while time.process_time() < {seconds}: pass\ntime.sleep({seconds})')
    monkeypatch.setattr(peers, 'OURS', tmp_path / 'ours')
    peers.main([str(tmp_path / 'timm' / 'validate.py'), '--repeats', '1', '--', '--model', 'x'])
    wall, cpu = json.loads(capsys.readouterr().out.splitlines()[-1])['rows']
    assert 0.8 <= cpu['timm'] < 1.5 and 0.2 <= cpu['gradaug_timm'] < 0.8
    assert wall['timm'] >= 1.6 and cpu['ratio'] < 0.6
    (tmp_path / 'ours' / 'validate.py').write_text('raise ValueError("no data")')
    with pytest.raises(SystemExit) as ended:
        peers.main([str(tmp_path / 'timm' / 'validate.py'), '--repeats', '1', '--', '--model', 'x'])
    assert ended.value.code == 1 and 'gradaug_timm: ValueError: no data' in capsys.readouterr().err


def test_an_instant_network_has_zero_gradients_and_its_parameters():
    network = nn.Sequential(nn.Linear(3, 2))
    make_instant(network, torch.ones(5, 2))
    network(torch.zeros(5, 3)).sum().backward()
    assert torch.equal(network[0].weight.grad, torch.zeros(2, 3))


def test_the_floor_of_a_linear_layer_is_that_computed_by_hand():
    layer, images = nn.Linear(40, 30, bias=False, device='meta'), torch.empty(20, 40, device='meta')
    with torch.no_grad(), Roofline(operations=1e6, bandwidth=1e9) as roofline:
        layer(images)
    assert roofline.total['operations'] == 2 * 20 * 30 * 40
    assert roofline.total['bytes'] == 4 * (20 * 40 + 30 * 40 + 20 * 30)
    assert roofline.total['floor'] == pytest.approx(0.048)


def test_the_peak_of_memory_is_that_of_what_is_alive_together():
    def run():
        for _ in range(3):
            a = torch.ones(2 ** 20)
            del a
        b, c = torch.ones(2 ** 20), torch.ones(2 ** 20)
        return b, c
    assert 8 * 2 ** 20 <= memory._peak_on_cpu(run) < 8.1 * 2 ** 20


def test_step_time_prints_times_and_ratios_that_belong_together(capsys):
    step_time.main([*SMALL, '--paper'])
    found = printed(capsys)
    values = by_name(found['rows'])
    assert found['benchmark'] == 'step_time' and found['torch'] == torch.__version__
    assert values['cost: GradAug step / plain step'] > 1.2 and values['cost by multiply-adds'] > 2
    assert values['GradAug step'] > values['plain step'] > values['plain step without its network']


def test_a_line_is_added_to_the_file_that_json_names(tmp_path, capsys):
    for _ in range(2):
        memory.main([*SMALL, '--json', str(tmp_path / 'lines')])
    lines = [json.loads(line) for line in (tmp_path / 'lines').read_text().splitlines()]
    assert len(lines) == 2
    assert 1 <= by_name(lines[0]['rows'])['GradAug step / plain step'] < 2


def test_widths_prints_a_row_for_each_width_and_divisor(capsys):
    widths.main([*SMALL, '--widths', '0.5', '1', '--divisors', '1', '16'])
    rows = printed(capsys)['rows']
    assert [(row['width'], row['divisor'], row['multiply-adds']) for row in rows[2:]] == [(1, 1, 1), (1, 16, 1)]
    assert rows[0]['multiply-adds'] < rows[1]['multiply-adds'] < 1


def test_scaling_prints_a_row_for_each_number_of_subnetworks_and_batch(capsys):
    scaling.main([*SMALL, '--subnets', '1', '3', '--batches', '2'])
    assert [(row['sub-networks'], row['batch']) for row in printed(capsys)['rows']] == [(1, 4), (3, 4), (3, 2)]


@pytest.mark.slow
def test_floor_needs_no_device(capsys):
    floor.main(SMALL)
    rows = printed(capsys)['rows']
    assert rows[2]['floor ms'] == pytest.approx(rows[0]['floor ms'] + rows[1]['floor ms'])
    assert 1 < rows[2]['cost'] < 4


def test_loader_times_the_pipeline_and_the_step_of_a_command_of_train_py(image_folder, capsys):
    loader.main([
        '--batches', '2', str(image_folder), '--model', 'gradaug_resnet20_cifar', '--model-kwargs', 'depth=8',
        '--num-classes', '2', '--input-size', '3', '16', '16', '-b', '4', '-j', '0', '--device', 'cpu'])
    rows = {row['what']: row['images/s'] for row in printed(capsys)['rows']}
    assert rows['pipeline / step'] == pytest.approx(rows['input pipeline'] / rows['training step'])


@pytest.mark.slow
def test_ddp_finds_the_gradients_of_two_processes_equal(capsys):
    ddp.main(SMALL)
    rows = printed(capsys)['rows']
    assert [row['processes'] for row in rows] == [1, 2] and all(row['gradients equal'] for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('bash') is None, reason='needs bash')
def test_the_comparison_for_a_gpu_runs_whole_with_tiny_settings(shared_data, tmp_path):
    data, output = tmp_path / 'data', tmp_path / 'out'
    subprocess.run([sys.executable, 'cifar_unpack.py', '.', data], cwd=shared_data, check=True)
    environment = {**os.environ, 'SPEED': '', 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    subprocess.run(
        [ROOT / 'benchmarks' / 'gpu_evidence.sh', data, output, '--device', 'cpu', '--epochs', '1', '--seeds', '1',
         '--labels-per-class', '2', '--model-kwargs', 'depth=10', 'widen_factor=1', '--batch-size', '50',
         '--warmup-epochs', '0', '--workers', '0'], check=True, timeout=900, env=environment)
    rows = json.loads((output / 'comparison.json').read_text())['rows']
    assert [row['method'] for row in rows] == ['baseline', 'cutmix', 'fast', 'fast+cutmix']
    assert all(0 <= row['mean'] <= 100 for row in rows)


def test_presets_are_measured_against_plain_training(capsys):
    presets.main(SMALL)
    rows = {row['preset']: row for row in printed(capsys)['rows']}
    assert list(rows) == ['paper', 'default', 'fast']
    assert 1 < rows['fast']['multiply-adds'] <= 1.2 < rows['default']['multiply-adds'] < rows['paper']['multiply-adds']
    assert all(0.3 < row['time'] < 20 and 0.9 < row['memory'] < 1.6 for row in rows.values())


def test_the_data_of_the_comparisons_are_disjoint_images_of_the_chosen_classes(tmp_path, monkeypatch):
    class Fake:
        classes = [f'class{index}' for index in range(100)]

        def __init__(self, root, train):
            self.images = [(Image.new('RGB', (32, 32), (index, label, train)), label)
                           for label in (49, 50, 59, 60) for index in range(210 if train else 20)]

        def __iter__(self):
            return iter(self.images)

    monkeypatch.setattr(evidence_data, 'CIFAR100', Fake)
    evidence_data.main(['data', str(tmp_path), '--size', '16', '--validation', '25'])
    for split, count in (('train', 200), ('validation', 25)):
        assert sorted(folder.name for folder in (tmp_path / split).iterdir()) == ['class50', 'class59']
        assert len(list((tmp_path / split / 'class50').iterdir())) == count
    images = [Image.open(path) for path in tmp_path.glob('*/class50/*')]
    assert {image.size for image in images} == {(16, 16)} and len({image.tobytes() for image in images}) == 225


def test_the_last_ten_of_the_classes_in_a_zip_file_become_folders_of_their_first_images_and_others(tmp_path):
    with zipfile.ZipFile(tmp_path / 'tiny.zip', 'w') as archive:
        for index in range(20):
            for number in range(4):
                data = io.BytesIO()
                Image.new('L', (6, 6), 10 * index + number).save(data, 'png')
                archive.writestr(f'tiny/train/n{index:02}/{number}.png', data.getvalue())
            archive.writestr(f'tiny/val/n{index:02}/0.png', data.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence_data, 'TRAINING_IMAGES', 1)
        evidence_data.main([str(tmp_path / 'tiny.zip'), str(tmp_path / 'out'), '--size', '4', '--validation', '2'])
    for split, numbers in (('train', [0]), ('validation', [1, 2])):
        folders = sorted((tmp_path / 'out' / split).iterdir())
        assert [folder.name for folder in folders] == [f'n{index}' for index in range(10, 20)]
        images = [Image.open(path) for path in sorted(folders[3].iterdir())]
        assert [(image.size, image.mode, image.getpixel((0, 0))[0]) for image in images] == [
            ((4, 4), 'RGB', 130 + number) for number in numbers]
