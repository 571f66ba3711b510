"""GradAug in a training script that is not ours."""
import shutil
from functools import partial
from pathlib import Path

import pytest
import timm_suite
from processes import run_script

from gradaug_timm.environment import flags_in
from gradaug_timm.training.arguments import given_settings

SCRIPT = '''
import argparse, importlib
import torch
from timm import create_model
from timm.task import ClassificationTask
from timm.utils import ParseKwargs

parser = argparse.ArgumentParser()
parser.add_argument('--device-modules', nargs='+')
parser.add_argument('--model')
parser.add_argument('--model-kwargs', nargs='*', default={}, action=ParseKwargs)
args = parser.parse_args()
for module in args.device_modules or []:
    importlib.import_module(module)
torch.manual_seed(0)
torch.set_num_threads(1)
model = create_model(args.model, num_classes=3, **args.model_kwargs)
task = ClassificationTask(
    model=model, criterion=torch.nn.CrossEntropyLoss(), device=torch.device('cpu'), dtype=None, verbose=True)
optimizer = torch.optim.SGD(task.get_trainable_module().parameters(), 0.01)
task.get_trainable_module().train()
for step in range(2):
    optimizer.zero_grad()
    result = task(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
    result['loss'].backward()
    optimizer.step()
print(type(task).__name__, sorted(result), getattr(task, 'settings', None))
'''


@pytest.fixture
def run(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    return partial(run_script, script)


def test_the_hook_trains_a_script_of_timms_shape_with_gradaug(run):
    done = run('--device-modules', 'gradaug_timm.hook', '--model', 'gradaug_test_resnet', GRADAUG_SUBNETS='2')
    assert done.returncode == 0, done.stderr
    assert 'loss_subnet_1' in done.stdout and 'loss_subnet_2' not in done.stdout
    assert 'subnets=2' in done.stdout and 'min_width=0.8' in done.stdout  # the preset of 32 px, not of the model's 160


def test_a_budget_chooses_in_a_script_too(run):
    done = run('--device-modules', 'gradaug_timm.hook', '--model', 'gradaug_test_resnet', GRADAUG_BUDGET='1.04')
    assert done.returncode == 0, done.stderr
    assert 'subnets=1, ' in done.stdout and 'sizes=(0.5,)' in done.stdout  # the preset `fast`
    assert 'interval=3, batch_fraction=0.62' in done.stdout  # two of four images


def test_a_network_of_one_size_gets_rotated_images(run):
    done = run('--device-modules', 'gradaug_timm.hook', '--model', 'vit_tiny_patch16_224',
               '--model-kwargs', 'img_size=32', 'depth=1', GRADAUG_SUBNETS='1')
    assert done.returncode == 0, done.stderr
    assert 'sizes=(1.0,), rotation=(0.0, 90.0, 180.0, 270.0)' in done.stdout


def test_without_the_hook_importing_the_package_patches_nothing(run):
    done = run('--device-modules', 'gradaug_timm', '--model', 'gradaug_test_resnet')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('ClassificationTask') and 'subnet' not in done.stdout


@pytest.mark.parametrize('module, is_on', [('gradaug_timm', False), ('gradaug_timm.hook', True)])
def test_timms_own_script_trains_our_models(image_folder, tmp_path, module, is_on):
    script = Path(shutil.copy(timm_suite.train_script(), tmp_path))
    done = run_script(
        script, '--device-modules', module, '--model', 'gradaug_test_resnet',
        *f'--data-dir {image_folder} --num-classes 2 --device cpu --workers 0 --batch-size 4 --img-size 32 --epochs 1 '
        f'--warmup-epochs 0 --no-prefetcher --output {tmp_path} --experiment run'.split(), GRADAUG_SUBNETS='1')
    assert done.returncode == 0, done.stderr
    assert ('GradAug is on' in done.stderr) == is_on
    assert (tmp_path / 'run' / 'summary.csv').read_text().count('\n') == 2


@pytest.mark.parametrize('environment, words', [
    (dict(GRADAUG_SUBNET='2'), 'did you mean --gradaug-subnets'), (dict(GRADAUG_MIN_WIDTH='2'), '--gradaug-min-width'),
    (dict(GRADAUG_OFF_EPOCH='3'), 'GRADAUG_OFF_EPOCH is not supported'),
    (dict(GRADAUG_SIZE_EPOCHS='3'), 'GRADAUG_SIZE_EPOCHS is not supported')])
def test_wrong_variables_end_the_script_with_one_line(capsys, environment, words):
    with pytest.raises(SystemExit) as end:
        flags_in(environment)
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert message.count('\n') == 1 and words in message


def test_variables_are_written_as_flags_are():
    environment = {'GRADAUG_SIZES': '1.0, 6/7 128', 'GRADAUG_MODE': 'both', 'GRADAUG_ROTATION': '-10 10', 'PATH': '/',
                   'GRADAUG_CACHE_DIR': '/tmp'}
    assert given_settings(flags_in(environment)) == {
        'sizes': (1.0, 6 / 7, 128), 'mode': 'both', 'rotation': (-10.0, 10.0)}
