"""`python -m gradaug_timm.recipe` tells what becomes of each key; the file that it writes trains."""
import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from train_helpers import read_summary, train

from gradaug_timm.recipe.flags import read_flags
from gradaug_timm.recipe.main import main
from gradaug_timm.recipe.reading import read_recipe, read_text
from gradaug_timm.recipe.shell import training_commands
from gradaug_timm.training.arguments import build_parser
from gradaug_timm.training.arguments.timm_versions import ADDED, DEFAULTS, REMOVED, defaults_at, span
from gradaug_timm.upstream import parser_actions


def translated(capsys, *argv) -> dict:
    capsys.readouterr()
    main([*map(str, argv[:1]), '--json'] if len(argv) == 1 else ['--json', *map(str, argv)])
    return json.loads(capsys.readouterr().out)


def verdicts(found: dict) -> dict[str, str]:
    return {row['key']: row['verdict'] for row in found['keys']}


OLD = '''
amp: false
amp_impl: native
native_amp: true
aot_autograd: true
bn_tf: false
batch_size: 8
color_jitter: null
jsd: false
lr: 0.02
mesa: 1.0
model: resnet20_cifar
num_gpu: 1
opt: fusedsgd
sched: cosine
torchscript: true
warmup_epochs: 0
cooldown_epochs: 0
'''


def test_each_key_is_kept_translated_or_dropped(capsys, tmp_path):
    (tmp_path / 'args.yaml').write_text(OLD)
    found = translated(capsys, tmp_path / 'args.yaml')
    by_key = verdicts(found)
    assert {key for key, verdict in by_key.items() if verdict == 'kept'} == {
        'amp', 'batch_size', 'color_jitter', 'lr', 'model', 'sched', 'warmup_epochs', 'cooldown_epochs'}
    assert {key for key, verdict in by_key.items() if verdict == 'translated'} == {'native_amp', 'opt'}
    assert {key for key, verdict in by_key.items() if verdict == 'dropped'} == {
        'amp_impl', 'aot_autograd', 'bn_tf', 'jsd', 'mesa', 'num_gpu', 'torchscript'}
    assert (found['settings']['amp'], found['settings']['opt']) == (True, 'sgd')
    reasons = {row['key']: row['reason'] for row in found['keys']}
    assert 'torchcompile' in reasons['aot_autograd'] and 'torchcompile' in reasons['torchscript']
    assert reasons['mesa'] == 'no flag of timm'


def test_the_written_file_trains(capsys, tmp_path, image_folder):
    (tmp_path / 'args.yaml').write_text(OLD)
    main([str(tmp_path / 'args.yaml'), '--output', str(tmp_path / 'new.yaml')])
    with pytest.raises(SystemExit):
        main([str(tmp_path / 'args.yaml'), '--output', f'{tmp_path}/../{tmp_path.name}/args.yaml'])
    assert (tmp_path / 'args.yaml').read_text() == OLD and 'is the recipe itself' in capsys.readouterr().err
    text = (tmp_path / 'new.yaml').read_text()
    assert '#   mesa: 1.0 (no flag of timm)' in text and yaml.safe_load(text)['amp'] is True
    folder = train(image_folder, tmp_path / 'out', config=tmp_path / 'new.yaml', amp_dtype='bfloat16')
    assert len(read_summary(folder)) == 1


SCRIPT = r'''#!/bin/bash
# trains with 4 GPUs
MODEL=resnet50   # or resnet18
export LR=0.5
cd /somewhere && CUDA_VISIBLE_DEVICES=0,1,2,3 nohup ./distributed_train.sh 4 /data/imagenet --model $MODEL -b128 \
  --epoch 90 --lr=${LR} --native-amp --aa rand-m9-mstd0.5-inc1 --cutmix-minmax 0.1 0.9 -j 8 \{space}
  --mean -0.5 0.4 0.4 --select-indices a.npy --weight_decay 1e-4 \
  > log.txt 2>&1 &
'''.replace('{space}', ' ')  # as people write it


def test_a_script_is_read_with_its_variables_continuations_and_abbreviations(capsys, tmp_path):
    (tmp_path / 'train.sh').write_text(SCRIPT)
    found = translated(capsys, tmp_path / 'train.sh')
    wanted = dict(data_dir='/data/imagenet', model='resnet50', batch_size=128, lr=0.5, amp=True, workers=8,
                  aa='rand-m9-mstd0.5-inc1', cutmix_minmax=[0.1, 0.9], mean=[-0.5, 0.4, 0.4], weight_decay=1e-4)
    assert {name: found['settings'][name] for name in wanted} == wanted
    assert verdicts(found)['select_indices'] == 'dropped'
    assert found['notes'][0] == '512 images per update: 4 processes of 128'
    assert '--grad-accum-steps 4' in found['notes'][1]


@pytest.mark.parametrize(('text', 'processes'), [
    ('python train.py --model resnet18', None),
    ('python3 -u ./timm/train.py /data --model resnet18', None),
    ('torchrun --nproc_per_node=4 train.py --model resnet18', 4),
    ('torchrun --nnodes 2 --nproc-per-node 8 train.py --model resnet18', 16),
    ('python -m torch.distributed.launch --nproc_per_node=2 --use_env train.py --model resnet18', 2),
    ('sh distributed_train.sh 8 /data --model resnet18', 8),
    ('mpirun -np 4 python train.py --model resnet18', 4),
    ('accelerate launch --num_processes 2 train.py --model resnet18', 2),
    ('$ gradaug-train --model resnet18', None),
    ('--model resnet18 --lr 0.1', None),
    ('python $train_path --model resnet18', None),
])
def test_each_way_to_start_a_training_is_known(text, processes):
    command, = training_commands(text)
    assert command.processes == processes
    assert read_flags(command.flags).values['model'] == 'resnet18'


DOCUMENT = """---
title: How we train
---
# The model's recipe

- First read `train.py`; don't skip it.
- Run train.py with the flags below, or (see https://x.org) main.py.

```bash
{command}
```
"""
COMMANDS = {
    'in a block': 'python train.py /data --model resnet18 --lr 0.1',
    'in one line': '`python train.py /data --model resnet18 --lr 0.1`',
    'after another': 'cp train.py /tmp; python train.py /data --model resnet18 --lr 0.1',
    'with what the shell computes': 'python train.py /data --output $(dirname $(pwd))/out --experiment `date +%F` '
                                    '--model resnet18 --lr 0.1',
    'with flags in a variable': 'ARGS="--model resnet18 --lr 0.1"\npython train.py /data $ARGS',
    'with an array': 'ARGS=(\n  --model resnet18  # small\n  --lr 0.1\n)\npython train.py /data "${ARGS[@]}"',
    'in quotes': 'srun bash -c "cd /x && python train.py /data --model resnet18 --lr 0.1"',
    'in a variable': 'CMD="python train.py /data --model resnet18 --lr 0.1"; eval $CMD',
    'with numbers': 'SIZE="3 32 32"; N=8\nlet LR=N/4-2/2*1\npython train.py /data --model resnet18 --input-size $SIZE '
                    '--lr 0.$LR --epochs $((N * 2))',
    'with two scripts': 'sh distributed_train.sh 4 train.py /data --model resnet18 --lr 0.1 --model-ema True',
    'with defaults': 'LR=${1:-0.1}\npython train.py /data --model ${MODEL:-resnet18} --lr ${LR} "$@"',
}


@pytest.mark.parametrize('kind', COMMANDS)
def test_the_command_of_a_document_is_found_amid_prose(kind, tmp_path):
    (tmp_path / 'README.md').write_text(DOCUMENT.replace('{command}', COMMANDS[kind]))
    found = read_recipe([str(tmp_path / 'README.md')])
    wanted = {'data_dir': '/data', 'model': 'resnet18', 'lr': '0.1'}
    assert {name: found.values.get(name) for name in wanted} == wanted
    assert found.unknown == {}
    assert found.values.get('input_size', ['3', '32', '32']) == ['3', '32', '32']
    assert found.values.get('epochs', '16') == '16' and found.values.get('model_ema', True) is True


def test_a_value_that_the_shell_computes_is_dropped_instead_of_guessed(capsys):
    found = translated(capsys, 'python train.py --model resnet18 --epochs 90 --warmup-epochs $((EPOCHS / 20)) --lr 1')
    assert verdicts(found)['warmup_epochs'] == 'dropped' and 'warmup_epochs' not in found['settings']
    assert found['settings']['lr'] == 1 and found['settings']['epochs'] == 90


def test_a_file_of_settings_in_a_command_is_read_and_the_command_overrides_it(capsys, tmp_path):
    (tmp_path / 'a.yaml').write_text('model: resnet18\nlr: 0.1\nnative_amp: true\n')
    command = f'./distributed_train.sh 4 -c {tmp_path}/a.yaml /data --lr 0.2'
    found = translated(capsys, command)
    assert found['settings'] == {'model': 'resnet18', 'lr': 0.2, 'amp': True, 'data_dir': '/data'} | {
        name: value for name, value in found['settings'].items() if verdicts(found).get(name) == 'added'}
    notes = translated(capsys, 'train.py -c nowhere.yaml --lr 0.2')['notes']
    assert notes[0] == '-c is not read: nowhere.yaml does not exist'


def test_a_command_after_two_dashes_is_one_in_quotes(capsys):
    words = ['torchrun', '--nproc-per-node', '2', 'train.py', '/my data', '--model', 'resnet18', '--sched', 'None']
    one = translated(capsys, '--', *words)
    other = translated(capsys, 'torchrun --nproc-per-node 2 train.py "/my data" --model resnet18 --sched None')
    assert one == other
    named = translated(capsys, '--', 'train.py', '--model', 'resnet18', '--experiment', "what's #3; a test")
    assert named['settings']['experiment'] == "what's #3; a test"
    assert one['settings'] == {'data_dir': '/my data', 'model': 'resnet18', 'sched': 'none'}


def test_what_a_version_did_without_being_asked_is_added(capsys):
    command = 'train.py --model resnet18 --lr 0.1 --sched step'
    assert set(verdicts(translated(capsys, command)).values()) == {'kept'}
    for version in ('0.4.12', '0.6.13'):
        found = translated(capsys, command, '--timm', version)
        added = {row['key']: row['today'][row['key']] for row in found['keys'] if row['verdict'] == 'added'}
        assert added['warmup_lr'] == 1e-4 and added['warmup_epochs'] == 3 and added['cooldown_epochs'] == 10
        assert added['decay_epochs'] == {'0.4.12': 30, '0.6.13': 100}[version]
    assert 'batch_size' not in added and 'lr' not in added


def test_the_version_follows_from_the_flags(capsys):
    assert translated(capsys, 'train.py --native-amp')['timm'] == '0.6.13'
    assert translated(capsys, 'train.py --jsd')['timm'] == '0.4.12'
    assert translated(capsys, 'train.py --amp-impl native')['timm'] == '1.0.22'
    assert translated(capsys, 'train.py --grad-accum-steps 2')['timm'] == '1.0.31'
    changed = translated(capsys, 'train.py --grad-accum-steps 2 --native-amp')
    assert 'a changed script' in changed['notes'][0]


def test_the_short_flag_of_the_validation_batch_follows_the_version(capsys):
    command = 'train.py -b 32 -vb 4'
    assert translated(capsys, command)['settings']['validation_batch_size'] == 4
    assert translated(capsys, command, '--timm', '0.4.9')['settings']['validation_batch_size'] == 128


def test_arguments_in_logs_checkpoints_and_trackers_are_read(tmp_path):
    values = {'lr': 0.1, 'model': 'resnet18', 'scale': [0.08, 1.0], 'native_amp': False, 'world_size': 4}
    log = tmp_path / 'log.txt'
    log.write_text(f'Training in 4 processes\n{Namespace(**values)}\nEpoch 0')
    torch.save({'args': Namespace(**values), 'state_dict': {}}, tmp_path / 'last.pth.tar')
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump(
        {'wandb_version': 1, **{name: {'desc': None, 'value': value} for name, value in values.items()}}))
    (tmp_path / 'args.yaml').write_text(yaml.safe_dump(values))
    save_file({'x': torch.zeros(1)}, tmp_path / 'best.safetensors', {'train_args': json.dumps(values)})
    for name in ('log.txt', 'last.pth.tar', 'config.yaml', 'args.yaml', 'best.safetensors', ''):
        recipe = read_recipe([str(tmp_path / name)])
        assert (recipe.values, recipe.processes) == (values, 4)


def test_the_learning_rate_is_told_with_the_images_that_it_is_for(capsys):
    notes = translated(capsys, './distributed_train.sh 8 /data --model resnet18 -b 64 --lr-base 0.2')['notes']
    assert notes == ['512 images per update: 8 processes of 64',
                     'the learning rate follows from --lr-base 0.2 for 256 images per update: 0.4']
    notes = translated(capsys, 'train.py --model resnet18 --lr 0.2')['notes']
    assert notes == ['128 images per update: 1 process of 128 (the recipe does not tell the number of processes; one '
                     'is assumed)']


@pytest.mark.parametrize(('argv', 'wanted'), [
    (['none.yaml'], 'none.yaml does not exist'),
    (['python validate.py --model resnet18'], 'validate.py is no training command'),
    (['hello world'], 'there is no training command'),
    (['--timm', 'new', 'train.py --lr 1'], "'new' must be a version such as 0.6.13"),
    (['train.py --aa "rand'], 'open quote'),
    (['train.py --lr 1', '--output', 'x.txt'], 'must end in .yaml'),
])
def test_what_is_no_recipe_ends_in_one_line(capsys, argv, wanted):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and len(error.splitlines()) == 1 and wanted in error


def test_a_value_of_null_is_shown(capsys, tmp_path):
    (tmp_path / 'a.yaml').write_text('color_jitter: null\nlr: 0.1\n')
    main([str(tmp_path / 'a.yaml')])
    assert 'color_jitter  null   kept' in capsys.readouterr().out


def test_the_report_names_models_and_files_that_are_not_here(capsys):
    main(['train.py /no/data --model unknown_net --lr 0.1 --batch-size $B'])
    out = capsys.readouterr().out
    for wanted in ('does not exist here', 'is unknown', 'not a value of --batch-size',
                   'Rejected by train.py as it is: --model unknown_net is unknown', '3 kept, 1 dropped'):
        assert wanted in out


@pytest.mark.parametrize(('teacher', 'problems'), [
    ('resnet5O', ['--kd-model-name resnet5O is unknown, did you mean resnet50?']),
    ('local-dir:exported', []), ('hf-hub:timm/resnet18.a1_in1k', [])])
def test_a_teacher_is_named_as_a_model_is(capsys, teacher, problems):
    assert translated(capsys, f'train.py --model resnet18 --kd-model-name {teacher}')['problems'] == problems


def test_an_abbreviation_is_that_of_timm(capsys):
    assert translated(capsys, 'train.py --checkpoint 3')['settings'] == {'checkpoint_hist': 3}


def test_each_flag_of_older_versions_is_known_today():
    known = {*parser_actions(build_parser())}
    assert {name for names in ADDED.values() for name in names.split()} | set(DEFAULTS) <= known
    assert set(REMOVED) <= known  # as flags that are translated or rejected


def test_versions_have_the_defaults_and_flags_of_timms_releases():
    assert defaults_at('0.4.12')['sched'] == 'step' and defaults_at('0.5.4')['sched'] == 'cosine'
    assert defaults_at('0.6.13')['lr'] == 0.05 and defaults_at('0.9.0')['lr'] is None
    assert 'decay_milestones' not in defaults_at('0.5.4') and defaults_at('0.6.13')['decay_milestones'] == [30, 60]
    assert span(['native_amp', 'bce_loss']) == ('0.5.4', '0.6.13')
    assert span(['lr']) == ('0.4.5', '1.0.31')


def test_a_text_may_hold_yaml_or_a_log():
    assert read_text('lr: 0.1\nmodel: resnet18', 'x').values == {'lr': 0.1, 'model': 'resnet18'}
    assert read_text('Namespace(l\nr=0.1, model="a")\npython train.py --lr 0.2', 'x').values == {'lr': '0.2'}
    with pytest.raises(ValueError, match='is not complete'):
        read_text('Namespace(l\nr=0.1, model="a")', 'x')
    assert read_text('mean: !!python/tuple [0, 1]', 'x').values == {'mean': [0, 1]}
    log = 'python train.py \\\n --lr 1\nNamespace(lr=0.1, \\\nmodel="a(b)", device=device(type="cuda"))\nf()'
    assert read_text(log, 'x').values == {'lr': 0.1, 'model': 'a(b)', 'device': "device(type='cuda')"}


def test_settings_of_this_package_are_recipes_too(capsys, project_root):
    assert Path(project_root).is_dir()
    found = translated(capsys, 'quickstart')
    assert set(verdicts(found).values()) == {'kept'} and found['problems'] == []
