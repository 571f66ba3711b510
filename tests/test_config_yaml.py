"""YAML files of flags are checked strictly."""
from pathlib import Path

import pytest
import yaml

from gradaug_timm.detection import arguments as detection
from gradaug_timm.training.arguments import build_parser, parse_arguments


def parse(path: Path, *argv: str):
    return parse_arguments(build_parser(), ['-c', str(path), '--model', 'resnet18', *argv])


def refusal(capsys, path: Path, *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(path, *argv)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert len(error.splitlines()) == 1
    assert str(path) in error
    return error


@pytest.fixture
def config(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / 'config.yaml'
        path.write_text(text)
        return path
    return write


@pytest.mark.parametrize(('text', 'wanted'), [
    ('mixupp: 0.2', "unknown key 'mixupp', did you mean mixup?"),
    ('zzzzzz: 1', "unknown key 'zzzzzz', see train.py --help"),
    ('weight-decay: 0.1', "unknown key 'weight-decay', did you mean weight_decay?"),
    ('model_ema: "false"', "model_ema must be true or false, not str 'false'"),
    ('model_ema: 1', 'model_ema must be true or false, not int 1'),
    ('gradaug: "no"', 'gradaug must be true or false'),
    ('lr: fast', "lr: 'fast' must be a number above 0"),
    ('lr: true', 'lr must be one value, not bool True'),
    ('lr: .nan', "lr: 'nan' must be a number above 0"),
    ('lr: [0.1]', 'lr must be one value, not list [0.1]'),
    ('epochs: 0', "epochs: '0' must be a whole number at least 1"),
    ('epochs: 1.5', "epochs: '1.5' must be a whole number"),
    ('epochs: null', 'epochs must be one value, not null'),
    ('smoothing: 1', "smoothing: '1' must be a number at least 0 and below 1"),
    ('workers: -1', 'workers'),
    ('input_size: 224', 'input_size must be a list of 3 values, not int 224'),
    ('input_size: [3, 32]', 'input_size must be a list of 3 values'),
    ('mean: []', 'mean must be a list of values'),
    ('decay_milestones: [1, x]', "decay_milestones: 'x' must be a whole number"),
    ('sched: cosin', "sched: invalid choice: 'cosin'"),
    ('train_size_schedule: nope', 'train_size_schedule'),
    ('opt: sgdd', "opt: 'sgdd' must be an optimizer of timm, did you mean sgd?"),
    ('aa: rand-q9', "aa: 'rand-q9' must be a policy"),
    ('gradaug_sizes: [2.5]', "gradaug_sizes: '2.5' must be a number of pixels above 1, or a fraction up to 1"),
    ('gradaug_mode: wide', 'gradaug_mode'),
    ('model_kwargs: [a=1]', 'model_kwargs must be a mapping of names to values'),
    ('naflex_loader: true', 'naflex_loader is not supported: NaFlex'),
    ('torchscript: true', 'torchscript is not supported: TorchScript'),
    ('lr: 0.1\nlr: 0.2', "key 'lr' is given twice"),
    ('config: other.yaml', "unknown key 'config'"),
    ('', 'must have lines "flag_name: value", not nothing'),
    ('- lr\n- 0.1', 'not list'),
    ('lr: [', 'while parsing'),
    ('lr: !!python/object/apply:os.system ["true"]', 'could not determine a constructor'),
])
def test_a_wrong_file_is_refused_in_one_line(capsys, config, text, wanted):
    assert wanted in refusal(capsys, config(text))


def test_all_problems_are_told_at_once(capsys, config):
    error = refusal(capsys, config('mixupp: 0.2\nlr: fast\nmodel_ema: "false"'))
    assert error.count(';') == 2
    for wanted in ('mixupp', "'fast'", "'false'"):
        assert wanted in error


def test_a_missing_file_is_refused(capsys, tmp_path):
    assert 'none.yaml does not exist' in refusal(capsys, tmp_path / 'none.yaml')


def test_values_are_converted_as_on_the_command_line(config):
    args, _ = parse(config(
        'lr: "3e-4"\nepochs: "10"\nweight_decay: 1e-3\nmean: ["0.5", 0.4, "0.3"]\ngradaug: true\n'
        'gradaug_sizes: [6/7, 24, 1]\nmodel_kwargs: {depth: 8}\nstop_epoch: null\nexperiment: 12'))
    assert (args.lr, args.epochs, args.weight_decay, args.mean) == (3e-4, 10, 1e-3, (0.5, 0.4, 0.3))
    assert args.gradaug_sizes == (6 / 7, 24, 1.)
    assert isinstance(args.gradaug_sizes[1], int) and isinstance(args.gradaug_sizes[2], float)
    assert args.model_kwargs == {'depth': 8} and args.stop_epoch is None and args.experiment == '12'


def test_the_command_line_wins_over_the_file(config):
    args, _ = parse(config('lr: 0.5\nepochs: 7\nmodel_ema: true\ngradaug: true'), '--lr', '0.1', '--no-gradaug')
    assert (args.lr, args.epochs, args.model_ema, args.gradaug) == (0.1, 7, True, False)


def test_the_written_flags_can_be_read_again(config):
    given = ['--opt', 'adamw', '--gradaug', '--gradaug-sizes', '6/7', '24', '--model-kwargs', 'depth=8', '--aa', 'v0']
    args, text = parse_arguments(build_parser(), ['--model', 'resnet18', *given])
    again, text_again = parse(config(text))
    assert again.values() == args.values()
    assert yaml.safe_load(text_again) == yaml.safe_load(text)


def test_the_flags_that_timm_writes_of_what_is_refused_do_no_harm(config):
    args, _ = parse(config('fuser: ""\ntorchscript: false\nnaflex_loader: false\nnaflex_max_seq_len: 576\nlr: 0.5'))
    assert args.lr == 0.5


HPARAMS = Path(__file__).parents[1] / 'hparams'


@pytest.mark.parametrize(
    'path', sorted(path for path in HPARAMS.rglob('*.yaml') if path.parent.name != 'coco'), ids=lambda p: p.name)
def test_every_shipped_file_is_valid(path):
    parse_arguments(build_parser(), ['-c', str(path)])


@pytest.mark.parametrize('path', sorted((HPARAMS / 'coco').glob('*.yaml')), ids=lambda p: p.name)
def test_every_shipped_file_of_detection_is_valid(path):
    pytest.importorskip('faster_coco_eval', reason='needs the extra detection')
    parse_arguments(
        detection.build_parser(), ['-c', str(path), '--data-dir', 'x'])
