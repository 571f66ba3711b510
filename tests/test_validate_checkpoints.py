"""validate.py on checkpoints of train.py."""
import csv
import json

import pytest

from gradaug_timm.evaluation.main import main as validate
from gradaug_timm.training.main import main as train

MODEL = 'gradaug_resnet20_cifar'


@pytest.fixture(scope='module')
def run_folder(image_folder, tmp_path_factory):
    """The folder of a short run with sub-networks and averaged weights."""
    output = tmp_path_factory.mktemp('runs')
    train([
        '--data-dir', str(image_folder), '--model', MODEL, '--num-classes', '2', '--epochs', '2', '-b', '8',
        '--opt', 'sgd', '--lr', '0.05', '--warmup-epochs', '0', '--sched', 'none', '--no-aug', '--model-ema',
        '--model-ema-decay', '0.5', '--gradaug-subnets', '1', '--gradaug-divisor', '4', '-j', '0', '--device', 'cpu',
        '--output', str(output), '--experiment', 'run'])
    return output / 'run'


@pytest.fixture
def evaluate(run_folder, image_folder, capsys):
    def run(*flags):
        capsys.readouterr()
        validate([
            '--data-dir', str(image_folder), '--model', MODEL, '--num-classes', '2', '-b', '8', '-j', '0',
            '--device', 'cpu', '--checkpoint', str(run_folder / 'last.pth.tar'), *map(str, flags)])
        return json.loads(capsys.readouterr().out.removeprefix('--result\n'))
    return run


def test_the_averaged_weights_give_the_figures_that_training_logged(evaluate, run_folder):
    last = list(csv.DictReader((run_folder / 'summary.csv').open()))[-1]
    results, plain = evaluate('--use-ema'), evaluate()
    assert results['top1'] == pytest.approx(float(last['eval_top1']), abs=1e-3)
    assert results['loss'] == pytest.approx(float(last['eval_loss']), abs=1e-3)
    assert plain['loss'] != results['loss']


def test_a_subnet_of_the_checkpoint_can_be_evaluated(evaluate):
    results = evaluate('--width', 0.5, '--divisor', 4)
    full = evaluate()
    assert results['param_count'] < full['param_count'] and results['loss'] != full['loss']


def test_a_subnet_takes_the_divisor_that_it_was_trained_with(evaluate):
    assert evaluate('--width', 0.5) == evaluate('--width', 0.5, '--divisor', 4)


def test_a_divisor_that_keeps_every_channel_is_refused(evaluate, capsys):
    with pytest.raises(SystemExit) as exit:
        evaluate('--width', 0.5, '--divisor', 1000)
    assert exit.value.code == 2
    assert '--divisor 1000 is too large for --width 0.5' in capsys.readouterr().err


def test_the_model_of_the_checkpoint_is_named_where_another_was_asked_for(evaluate, capsys):
    with pytest.raises(SystemExit) as exit:
        evaluate('--model', 'resnet56_cifar')
    assert exit.value.code == 2
    assert f'--model {MODEL} --num-classes 2' in capsys.readouterr().err.strip().splitlines()[-1]
