"""The records of real runs, and their comparison."""
import json
from types import SimpleNamespace

import pytest
import timm
import torch
from report_helpers import read_figures, report
from timm.utils import load_checkpoint_metadata
from torch import nn
from train_helpers import arguments, error_line, read_summary, train

import gradaug_timm  # noqa: F401
from gradaug_timm.elastic import multiply_adds
from gradaug_timm.training.loop import epochs as schedule
from gradaug_timm.training.main import main


def read_record(folder) -> dict:
    return json.loads((folder / 'run.json').read_text())


def counted_by_hooks(model: nn.Module, input_size) -> int:
    """Multiply-adds of convolutions and linear layers from their shapes."""
    counts = []

    def count(module, _, output):
        inputs = module.weight[0].numel()
        counts.append(inputs * output[0].numel())

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, *input_size))
    return sum(counts)


@pytest.mark.parametrize(('model', 'kwargs'), [('resnet20_cifar', 'depth=8'), ('mobilenetv3_small_050', None)])
def test_a_plain_run_records_the_size_and_cost_of_any_network(image_folder, tmp_path, model, kwargs):
    record = read_record(train(image_folder, tmp_path, model=model, model_kwargs=kwargs, img_size=32))
    network = timm.create_model(model, num_classes=2, **({'depth': 8} if kwargs else {}))
    assert record['parameters'] == sum(parameter.numel() for parameter in network.parameters())
    assert record['multiply_adds'] == counted_by_hooks(network, (3, 32, 32))
    assert record['gradaug'] is None and record['passes'] == record['relative_cost'] == 1
    assert record['input_size'] == [3, 32, 32] and record['epochs'] == 1 and record['training_images'] == 24
    session, = record['sessions']
    assert session['world_size'] == 1 and session['first_epoch'] == 0 and 'CPU' in session['device']
    assert session['versions']['torch'] == torch.__version__ and session['versions']['timm'] == timm.__version__


class Token(nn.Module):
    """Hands a parameter to a module, as cait does its class token."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 3))
        self.head = nn.Sequential(nn.Linear(3, 5))

    def forward(self, images):
        return self.head(self.token.expand(len(images), -1)) + images.mean()


def test_parameters_that_are_handed_to_modules_do_not_hinder_the_count():
    with torch.no_grad():
        assert multiply_adds(Token(), None, (3, 8, 8)) == 3 * 5


def test_a_gradaug_run_records_its_settings_and_the_cost_of_a_step(image_folder, tmp_path, caplog):
    caplog.set_level('INFO')
    folder = train(
        image_folder, tmp_path, gradaug=True, gradaug_subnets=2, gradaug_interval=4, gradaug_divisor=4,
        gradaug_sizes=[1], seed=5, grad_checkpointing=True)
    record = read_record(folder)
    assert record['passes'] == 1.5
    assert record['gradaug']['divisor'] == 4 and record['gradaug']['sizes'] == [1.0] and record['gradaug']['seed'] == 5
    assert 1 < record['relative_cost'] < 1.5
    assert f'a step costs about {record["relative_cost"]:.2f} times' in caplog.text
    assert record['multiply_adds'] == counted_by_hooks(
        timm.create_model('resnet20_cifar', depth=8, num_classes=2), (3, 16, 16))


def test_a_resumed_run_adds_its_session_and_a_finished_one_none(image_folder, tmp_path):
    flags = dict(epochs=3, resume='auto')
    folder = train(image_folder, tmp_path, stop_epoch=1, **flags)
    assert read_record(folder)['epochs'] == 1
    train(image_folder, tmp_path, **flags)
    record = read_record(folder)
    assert record['epochs'] == 3
    assert [session['first_epoch'] for session in record['sessions']] == [0, 1]
    train(image_folder, tmp_path, **flags)
    assert read_record(folder) == record


def test_a_run_that_starts_anew_in_its_folder_has_one_session(image_folder, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(schedule, 'train_epoch', interrupt)
        train(image_folder, tmp_path)
    assert ended.value.code == 130
    assert (tmp_path / 'run' / 'run.json').exists()
    assert len(read_record(train(image_folder, tmp_path))['sessions']) == 1
    assert len(read_record(train(image_folder, tmp_path, overwrite=True))['sessions']) == 1


def test_a_broken_record_stops_the_run_that_would_continue_it(image_folder, tmp_path, capsys):
    folder = train(image_folder, tmp_path, epochs=2, stop_epoch=1)
    (folder / 'run.json').write_text('{')
    error = error_line(capsys, arguments(image_folder, tmp_path, epochs=2, experiment='run', resume='auto'))
    assert f'{folder}/run.json is broken' in error


def test_images_that_a_network_cannot_take_are_refused_before_training(image_folder, tmp_path, capsys):
    argv = arguments(image_folder, tmp_path, model='inception_v3', model_kwargs=None, img_size=16, experiment='run')
    assert '--img-size or --input-size: the network fails on images of 3x16x16' in error_line(capsys, argv)
    assert not (tmp_path / 'run').exists()


def test_a_row_has_the_mean_time_of_training_since_the_row_before(image_folder, tmp_path, monkeypatch):
    times = iter([0., 1., 10., 13., 20., 25.])  # epochs of 1, 3 and 5 seconds; validation between them
    monkeypatch.setattr(schedule, 'time', SimpleNamespace(perf_counter=lambda: next(times)))
    folder = train(image_folder, tmp_path, epochs=3, val_interval=2)
    assert [float(row['train_seconds']) for row in read_summary(folder)] == [2., 5.]
    assert float(report(tmp_path, folder)[0]['s/epoch']) == 3.


def test_a_record_needs_no_checkpoint_and_checkpoints_need_no_record(image_folder, tmp_path):
    folder = train(image_folder, tmp_path, epochs=2, stop_epoch=1)
    (folder / 'run.json').unlink()
    train(image_folder, tmp_path, epochs=2, resume='auto')
    assert [session['first_epoch'] for session in read_record(folder)['sessions']] == [1]
    assert load_checkpoint_metadata(folder / 'last.pth.tar')['epoch'] == 1


def test_real_runs_become_a_table(image_folder, tmp_path):
    for seed in (1, 2):
        for name, gradaug in (('plain', False), ('gradaug', True)):
            main(arguments(
                image_folder, tmp_path / 'runs', experiment=f'{name}-s{seed}', seed=seed, epochs=2, gradaug=gradaug,
                gradaug_subnets=2 if gradaug else None))
    rows = report(tmp_path, tmp_path / 'runs')
    assert [row['method'] for row in rows] == ['gradaug', 'plain']
    assert all(row['seeds'] == row['epochs'] == '2' for row in rows)
    assert [row['passes'] for row in rows] == ['3', '1'] and rows[1]['cost'] == '1.00'
    assert float(rows[0]['s/epoch']) > 0
    for row, figures in zip(rows, read_figures(tmp_path / 'made' / 'report.csv')):
        folders = [tmp_path / 'runs' / f'{row["method"]}-s{seed}' for seed in (1, 2)]
        finals = [float(read_summary(folder)[-1]['eval_top1']) for folder in folders]
        assert float(figures['top1_final_mean']) == pytest.approx(sum(finals) / 2)
        assert float(figures['top1_final_std']) == pytest.approx(abs(finals[0] - finals[1]) / 2 ** 0.5)
        assert float(figures['gflops']) == read_record(tmp_path / 'runs' / 'plain-s1')['multiply_adds'] / 1e9
    text = (tmp_path / 'made' / 'report.md').read_text()
    assert f'torch {torch.__version__}, timm {timm.__version__}' in text
