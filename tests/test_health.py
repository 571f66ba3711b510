"""Losses, weights and statistics that are not finite are counted, end a run, and are never saved."""
import logging
import math
from unittest.mock import patch

import pytest
import torch
from train_helpers import after_batch, arguments, at_batch, read_summary, train

from gradaug_timm.files import read_checkpoint
from gradaug_timm.training.loop.between_steps import BetweenSteps
from gradaug_timm.training.loop.nonfinite import NonfiniteMonitor
from gradaug_timm.training.main import main

FLAGS = dict(experiment='run', epochs=2, batch_size=4, log_interval=1)  # six batches an epoch


def all_finite(path) -> bool:
    return all(value.isfinite().all() for value in read_checkpoint(path)['state_dict'].values())


def failure(capsys, argv) -> str:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('train.py: error:')]
    assert ended.value.code == 1 and len(lines) == 1
    return lines[0]


def spoil_pixel(images, target):
    images[0, 0, 0, 0] = math.nan


def spoil_gradient(result):
    result['loss'].register_hook(lambda gradient: gradient * math.inf)
    return result


def spoil_loss(result):
    return {**result, 'loss': result['loss'] + math.inf}  # whose gradient is that of the loss


def test_one_bad_pixel_ends_the_run_naming_the_statistic_that_it_spoiled(image_folder, tmp_path, capsys):
    with at_batch(8, spoil_pixel):
        line = failure(capsys, arguments(image_folder, tmp_path, **FLAGS))
    assert 'the loss is no longer finite in epoch 1, by update 2' in line
    assert 'and neither is the running statistic bn1.running_mean' in line
    for name in ('last', 'model_best'):
        assert all_finite(tmp_path / 'run' / f'{name}.pth.tar')
    assert len(read_summary(tmp_path / 'run')) == 1


def test_what_is_not_finite_is_not_saved_within_an_epoch_either(image_folder, tmp_path, capsys):
    with at_batch(4, spoil_pixel):
        line = failure(capsys, arguments(
            image_folder, tmp_path, checkpoint_steps=1, **{**FLAGS, 'log_interval': 100}))
    assert 'in epoch 0, batch 4' in line
    assert read_checkpoint(tmp_path / 'run' / 'last.pth.tar')['position'] == dict(epoch=0, batch=3)
    assert all_finite(tmp_path / 'run' / 'last.pth.tar')


@pytest.mark.parametrize('flags', [dict(nonfinite_limit=3), dict(amp=True, amp_dtype='float16')])
def test_an_update_without_a_finite_gradient_is_left_out_and_counted(image_folder, tmp_path, caplog, flags):
    whole = train(image_folder, tmp_path / 'whole', **FLAGS, **flags)
    with caplog.at_level(logging.WARNING), after_batch(3, spoil_gradient):
        folder = train(image_folder, tmp_path / 'spoiled', **FLAGS, **flags)
    assert all_finite(folder / 'last.pth.tar')
    messages = [text for text in caplog.messages if 'updates were skipped' in text]
    assert len(messages) == 1 and '0 batches' in messages[0] and '1 updates' in messages[0]
    steps = [read_checkpoint(path / 'last.pth.tar')['optimizer']['state'] for path in (folder, whole)]
    assert steps[0].keys() == steps[1].keys()


def test_a_run_goes_on_until_the_limit_of_bad_losses(image_folder, tmp_path, capsys):
    argv = arguments(image_folder, tmp_path, nonfinite_limit=2, **FLAGS)
    with after_batch(2, spoil_loss), patch.object(BetweenSteps, 'save', lambda *_, **__: None):
        main(argv)
    with after_batch(None, spoil_loss):
        line = failure(capsys, [*argv, '--overwrite'])
    assert 'the loss is no longer finite in epoch 0, by update 2 (2 batches)' in line


def test_bad_losses_are_counted_by_batches():
    health = NonfiniteMonitor(torch.nn.Linear(2, 2))
    for value in (1., math.nan, 2., math.inf):
        health.update(torch.tensor(value), updated=True)
    assert health._counts.tolist() == [2, 0]
