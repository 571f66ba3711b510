"""Any command line or YAML file gives a valid run, or one line of error and exit code 2."""
import contextlib
import importlib
import io

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from train_helpers import arguments

from gradaug_timm.evaluation.arguments import build_parser as build_validate_parser
from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.main import main

UNTRIED = {  # do things
    'help', 'config', 'output', 'device_modules', 'log_tensorboard', 'log_trackio', 'log_wandb', 'torchcompile',
    'torchcompile_mode'}
ACTIONS = [action for action in build_parser()._actions
           if action.option_strings and action.dest not in UNTRIED and '--version' not in action.option_strings]
JUNK = [
    '', ' ', '-1', '0', '1', '2', '0.5', '-0.0', '1e400', 'nan', 'inf', '-inf', '1_0', '٣', 'x', '../x', '/', '[', '{}',
    'None', 'True', 'a=b', '=', 'a=!!python/object/apply:os.system', '🎈', '\x00', '%s', 'auto', 'x' * 300, '1 2']
QUICK = dict(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def values_of(action):
    allowed = [str(choice) for choice in action.choices or ()] + [str(action.default)]
    return st.sampled_from([*JUNK, *allowed])


@st.composite
def flag(draw):
    action = draw(st.sampled_from(ACTIONS))
    return [action.option_strings[-1], *draw(st.lists(values_of(action), max_size=2))]


LINES = st.lists(flag(), max_size=4).map(lambda flags: [text for group in flags for text in group])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 5), st.floats(), st.sampled_from(JUNK), st.dates(), st.binary(max_size=3))
KEYS = st.one_of(st.sampled_from([action.dest for action in ACTIONS]), st.sampled_from([*JUNK, 'base']), st.integers())
YAMLS = st.one_of(
    st.dictionaries(KEYS, st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(KEYS, SCALARS, max_size=2)),
                    max_size=4).map(yaml.dump),
    st.text(max_size=40),
    st.sampled_from(['!!python/object/apply:os.system [touch canary]', '&a [*a]', 'a: b: c', '- 1', 'lr: 1\nlr: 2']))


def outcome(run) -> str | None:
    """None where `run` comes to its end; else its one line, after which it ends with exit code 2."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            run()
    except SystemExit as ended:
        lines = [line for line in printed.getvalue().splitlines() if 'error:' in line]
        assert ended.code == 2 and len(lines) == 1, printed.getvalue()
        return lines[0]
    return None


def check_line(argv):
    outcome(lambda: parse_arguments(build_parser(), argv))


def check_yaml(folder, text):
    path = folder / 'config.yaml'
    path.write_text(text, encoding='utf-8', errors='surrogatepass')
    line = outcome(lambda: parse_arguments(build_parser(), ['-c', str(path), '--data-dir', 'x']))
    assert line is None or str(path) in line or '--' in line


@settings(max_examples=150, **QUICK)
@given(LINES)
def test_any_command_line_is_taken_or_refused_in_one_line(argv):
    check_line(argv)


@settings(max_examples=150, **QUICK)
@given(YAMLS)
def test_any_yaml_file_is_taken_or_refused_in_one_line(tmp_path_factory, text):
    check_yaml(tmp_path_factory.getbasetemp(), text)


@settings(max_examples=100, **QUICK)
@given(st.lists(st.sampled_from([text for action in build_validate_parser()._actions for text in action.option_strings]
                                + JUNK), max_size=5))
def test_any_command_line_of_validate_is_taken_or_refused_in_one_line(argv):
    if not {'-h', '--help', '--torchcompile', '--torchcompile-mode'} & set(argv):
        outcome(lambda: build_validate_parser().parse_args(argv))


class Started(Exception):
    """A run began."""


def check_preparation(data, output, argv):
    """What can't be trained ends before it begins, and never in a traceback."""
    def run():
        with contextlib.suppress(Started):
            main([*arguments(data, output), *argv])
    outcome(run)


@pytest.fixture
def never_trains(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    def started(run):
        raise Started
    monkeypatch.setattr(importlib.import_module('gradaug_timm.training.main'), 'run_epochs', started)


@settings(max_examples=25, **QUICK)
@given(st.lists(flag(), min_size=1, max_size=1).map(lambda flags: flags[0]))
def test_any_flag_leads_to_a_run_that_can_start_or_to_one_line(image_folder, tmp_path_factory, never_trains, argv):
    check_preparation(image_folder, tmp_path_factory.getbasetemp() / 'fuzz', argv)


@pytest.mark.slow
@settings(max_examples=3000, **QUICK)
@given(LINES)
def test_any_of_thousands_of_command_lines(argv):
    check_line(argv)


@pytest.mark.slow
@settings(max_examples=3000, **QUICK)
@given(YAMLS)
def test_any_of_thousands_of_yaml_files(tmp_path_factory, text):
    check_yaml(tmp_path_factory.getbasetemp(), text)


@pytest.mark.slow
@settings(max_examples=500, **QUICK)
@given(LINES)
def test_any_of_hundreds_of_preparations(image_folder, tmp_path_factory, never_trains, argv):
    check_preparation(image_folder, tmp_path_factory.getbasetemp() / 'fuzz', argv)
