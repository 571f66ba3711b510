"""validate.py on networks whose residual branches evaluation scales: ShakeDrop, stochastic depth, random depth."""
import csv
import json

import pytest
import timm
import torch
from test_validate import read_images
from timm.utils import load_checkpoint_metadata
from train_helpers import read_summary, train

from gradaug_timm.elastic import Subnet, extract, make_elastic
from gradaug_timm.evaluation.main import main
from gradaug_timm.evaluation.network import load_weights
from gradaug_timm.regularizers import add_shake_drop, scale_residuals

MODEL = 'gradaug_resnet20_cifar'
RUNS = {
    'shake': dict(shake_drop=0.3, shake_drop_alpha=[0, 0.5]),
    'depth': dict(stoch_depth=0.3),
    'plain': dict(),
}


@pytest.fixture(scope='module')
def checkpoints(image_folder, tmp_path_factory):
    """By name the folder of a short run that has seen enough for its branches to matter, trained when it is used."""
    output = tmp_path_factory.mktemp('runs')

    class Folders(dict):
        def __missing__(self, name):
            self[name] = train(
                image_folder, output, experiment=name, model=MODEL,
                model_kwargs='depth=8', img_size=32, epochs=2, lr=0.05, gradaug=False, **RUNS[name])
            return self[name]
    return Folders()


@pytest.fixture
def evaluate(image_folder, checkpoints, capsys):
    def run(name, *flags, model=MODEL):
        folder = checkpoints[name]
        capsys.readouterr()
        main([
            '--data-dir', str(image_folder), '--model', model, '--model-kwargs', 'depth=8', '--num-classes', '2',
            '-b', '8', '-j', '0', '--device', 'cpu', '--checkpoint', str(folder / 'last.pth.tar'),
            *map(str, flags)])
        return json.loads(capsys.readouterr().out.removeprefix('--result\n'))
    return run


@pytest.fixture
def refusal(evaluate, capsys):
    def run(*args, **kwargs):
        with pytest.raises(SystemExit) as ended:
            evaluate(*args, **kwargs)
        assert ended.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]
    return run


def _loss_of(model, image_folder) -> float:
    """The loss on the validation images, by a loop of its own."""
    images, labels = read_images(image_folder / 'validation')
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(model.eval()(images), labels).item()


def _network(folder):
    model = timm.create_model(MODEL, depth=8, num_classes=2)
    load_weights(model, str(folder / 'last.pth.tar'), name=MODEL)
    return model


@pytest.mark.parametrize('name', RUNS)
def test_a_checkpoint_gives_the_figures_that_training_logged(evaluate, checkpoints, name):
    last = read_summary(checkpoints[name])[-1]
    results = evaluate(name)
    assert results['top1'] == pytest.approx(float(last['eval_top1']), abs=1e-3)
    assert results['loss'] == pytest.approx(float(last['eval_loss']), abs=1e-3)
    assert {key: results.get(key) for key in ('shake_drop', 'stoch_depth')} == {
        'shake_drop': 0.3 if name == 'shake' else None, 'stoch_depth': 0.3 if name == 'depth' else None}


@pytest.mark.parametrize('name', ['shake', 'depth'])
def test_survival_1_scales_nothing(evaluate, checkpoints, image_folder, name):
    results = evaluate(name, *{'shake': ('--shake-drop', 1), 'depth': ('--stoch-depth', 1)}[name])
    assert results['loss'] == pytest.approx(_loss_of(_network(checkpoints[name]), image_folder), abs=2e-4)
    assert abs(results['loss'] - evaluate(name)['loss']) > 1e-3


def test_a_flag_replaces_what_the_checkpoint_says(evaluate, checkpoints, image_folder):
    results = evaluate('depth', '--shake-drop', 0.6)
    expected = _loss_of(add_shake_drop(_network(checkpoints['depth']), 0.6), image_folder)
    assert results['loss'] == pytest.approx(expected, abs=2e-4)
    assert results['shake_drop'] == 0.6 and 'stoch_depth' not in results


def test_residuals_are_scaled_on_request(evaluate, checkpoints, image_folder):
    results = evaluate('plain', '--scale-residuals', 0.5)
    expected = _loss_of(scale_residuals(_network(checkpoints['plain']), 0.5), image_folder)
    assert results['loss'] == pytest.approx(expected, abs=2e-4)
    assert abs(results['loss'] - evaluate('plain')['loss']) > 1e-3 and results['scale_residuals'] == 0.5


def test_a_sub_network_is_scaled_as_the_whole(evaluate, checkpoints, image_folder):
    flags = ('--width', 0.5, '--divisor', 4, '--recalibration-batches', 0)
    results = evaluate('plain', '--scale-residuals', 0.5, *flags)
    model = make_elastic(scale_residuals(_network(checkpoints['plain']).eval(), 0.5))
    expected = _loss_of(extract(model, Subnet(0.5, 4)), image_folder)
    assert results['loss'] == pytest.approx(expected, abs=2e-4)
    assert results['width'] == 0.5 and evaluate('depth', '--width', 0.5)['stoch_depth'] == 0.3


def test_the_plain_network_of_timm_takes_the_checkpoint_too(evaluate):
    assert evaluate('depth', model='resnet20_cifar')['loss'] == pytest.approx(evaluate('depth')['loss'], abs=1e-4)


def test_what_has_no_meaning_is_refused_in_one_line(refusal, tmp_path, image_folder, capsys):
    assert '--shake-drop and --scale-residuals exclude each other' in refusal(
        'plain', '--shake-drop', 0.5, '--scale-residuals', 0.5)
    assert 'argument --stoch-depth' in refusal('plain', '--stoch-depth', 0)
    model = timm.create_model('densenet121', num_classes=2)
    torch.save(model.state_dict(), tmp_path / 'dense.pth')
    with pytest.raises(SystemExit):
        main(['--data-dir', str(image_folder), '--model', 'densenet121', '--num-classes', '2', '--device', 'cpu',
              '--checkpoint', str(tmp_path / 'dense.pth'), '--scale-residuals', '0.8', '-j', '0'])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert '--scale-residuals 0.8 can\'t be used with --model densenet121: DenseNet has no place' in error


@pytest.mark.parametrize('form', ['legacy', 'dict', 'none'])
def test_weights_of_other_scripts_are_evaluated_as_they_are(checkpoints, evaluate, tmp_path, form):
    state = load_checkpoint_metadata(checkpoints['plain'] / 'last.pth.tar')['state_dict']
    args = {'shake_drop': 0.1} if form == 'dict' else None
    content = state if form == 'legacy' else {'state_dict': state, 'args': args}
    path = tmp_path / 'other.pth'
    torch.save(content, path, _use_new_zipfile_serialization=form != 'legacy')
    assert evaluate('plain', '--checkpoint', path)['loss'] == pytest.approx(evaluate('plain')['loss'], abs=1e-4)


def test_results_of_a_folder_have_the_columns_of_all_its_checkpoints(evaluate, checkpoints, tmp_path):
    for name in RUNS:
        (tmp_path / f'{name}.pth.tar').symlink_to(checkpoints[name] / 'last.pth.tar')
    results = evaluate('plain', '--checkpoint', tmp_path, '--results-file', tmp_path / 'results.csv')
    rows = list(csv.DictReader((tmp_path / 'results.csv').open()))
    assert len(rows) == len(RUNS)
    assert rows == [{key: str(row.get(key, '')) for key in rows[0]} for row in results]
    assert [row['shake_drop'] for row in rows if 'shake' in row['checkpoint']] == ['0.3']


def test_what_was_trained_is_what_the_checkpoint_says(checkpoints):
    args = load_checkpoint_metadata(checkpoints['shake'] / 'last.pth.tar')['args']
    assert args.shake_drop == 0.3 and args.shake_drop_alpha == [0, 0.5]
