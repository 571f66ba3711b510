"""Regularisers, planners and loggers that are added by a decorator."""
import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import nn
from train_helpers import arguments

from gradaug_timm import (
    GradAugSettings,
    Subnet,
    extract,
    make_elastic,
    open_trained,
    register_logger,
    register_planner,
    register_regularizer,
)
from gradaug_timm.cli import NamedKeywords
from gradaug_timm.elastic import Skippable, plans_by_probing, register_block
from gradaug_timm.elastic.blocks import BLOCKS
from gradaug_timm.elastic.planning.registry import PLANNERS
from gradaug_timm.flags import Role, setting
from gradaug_timm.regularizers import REGULARIZERS, add_regularizers, complete_settings
from gradaug_timm.training.arguments import TrainSettings, parse_arguments, resolve
from gradaug_timm.training.arguments.parsing import settings_parser
from gradaug_timm.training.building.networks import build_network, regularizer_settings
from gradaug_timm.training.checkpoints.compatibility import check_continues
from gradaug_timm.training.checkpoints.state import CheckpointState
from gradaug_timm.training.outputs.folder import RunFolder
from gradaug_timm.training.outputs.loggers import Logger, RefusedError, open_loggers
from gradaug_timm.training.outputs.loggers.registry import LOGGERS


class Scaled(nn.Module):
    """Multiplies, in training or always."""

    def __init__(self, factor, always):
        super().__init__()
        self.factor, self.always = factor, always

    def forward(self, x):
        return x * self.factor if self.training or self.always else x


@pytest.fixture
def scaling():
    """A regulariser that scales the input of the classifier, known for the time of a test."""
    @register_regularizer('scaling', in_evaluation=True)
    def add_scaling(model, factor, *, limits=(0., 9.), always=False):
        if not limits[0] <= factor <= limits[1]:
            raise ValueError(f'factor={factor} must be within {limits}')
        if not isinstance(model.head.fc, nn.Linear):
            raise ValueError('its classifier is no linear layer')
        model.head.fc = nn.Sequential(Scaled(factor, always), model.head.fc)
        return model
    yield add_scaling
    REGULARIZERS.remove('scaling')


def network():
    torch.manual_seed(0)
    return timm.create_model('resnet20_cifar', num_classes=3, depth=8)


@pytest.mark.parametrize('given, words', [
    (dict(scalin=dict(factor=2)), r"unknown regulariser 'scalin', did you mean scaling\? \(registered: .*shake_drop"),
    (dict(scaling=dict(faktor=2)), r"needs the setting 'factor'; unknown setting 'faktor' of scaling, did you mean"),
    (dict(scaling=dict(factor=2, zzz=1)), "unknown setting 'zzz' of scaling, it has factor, limits, always"),
    (dict(scaling=dict(factor=10)), r"scaling can't be used with CifarResNet: factor=10 must be within \(0\.0, 9\.0\)"),
])
def test_wrong_regularisers_are_refused_with_what_is_allowed(scaling, given, words):
    with pytest.raises(ValueError, match=words):
        add_regularizers(network(), given)


def test_a_regulariser_is_registered_once(scaling):
    with pytest.raises(ValueError, match=r"regulariser 'scaling' is registered already, by test_registries\.scaling\."):
        register_regularizer('scaling')(lambda model: model)


def test_settings_are_completed_by_the_functions_defaults(scaling):
    assert complete_settings('scaling', dict(factor=2, limits=[1, 3], always=None)) == dict(
        factor=2, limits=(1, 3), always=False)
    assert complete_settings('shake_drop', dict(level='image')) == dict(
        survival=0.5, alpha=(-1., 1.), beta=(0., 1.), level='image')


def test_those_that_join_others_come_last(scaling):
    added = []
    register_regularizer('joining', last=True)(lambda model: added.append('joining') or model)
    register_regularizer('early')(lambda model: added.append('early') or model)
    try:
        add_regularizers(network(), dict(joining={}, early={}))
    finally:
        REGULARIZERS.remove('joining')
        REGULARIZERS.remove('early')
    assert added == ['early', 'joining']


@dataclass(frozen=True, kw_only=True)
class Extended(TrainSettings):
    """The settings of training with a flag for all regularisers that have none of their own."""

    regularizer: Mapping[str, Any] = setting(
        {}, 'a registered regulariser, with its settings', nargs='+', action=NamedKeywords,
        metavar=('NAME', 'KEY=VALUE'), role=Role.COMPARED)


def settings(image_folder, tmp_path, *more, **given):
    parser = settings_parser(Extended, resolve, prog='train')
    return parse_arguments(parser, [*arguments(image_folder, tmp_path, **given), *more])[0]


def test_a_run_builds_what_its_flags_name(scaling, image_folder, tmp_path):
    torch.manual_seed(0)
    plain = build_network(settings(image_folder, tmp_path))
    torch.manual_seed(0)
    built = build_network(settings(image_folder, tmp_path, '--regularizer', 'scaling', 'factor=3.'))
    x = torch.randn(2, 3, 16, 16)
    bias = plain.head.fc.bias.detach()
    torch.testing.assert_close(built.train()(x), 3 * (plain.train()(x) - bias) + bias)
    torch.testing.assert_close(built.eval()(x), plain.eval()(x))
    with pytest.raises(ValueError, match="--regularizer scaling does not support --model resnet20_cifar: factor=-1"):
        build_network(settings(image_folder, tmp_path, '--regularizer', 'scaling', 'factor=-1'))


def test_several_are_written_one_after_the_other_or_as_a_mapping_of_a_file(scaling, image_folder, tmp_path):
    (tmp_path / 'x.yaml').write_text('regularizer: {scaling: {factor: 2.0}, shake_drop: {level: image}}')
    by_file = settings(image_folder, tmp_path, '-c', str(tmp_path / 'x.yaml'))
    by_flag = settings(
        image_folder, tmp_path, '--regularizer', 'shake_drop', 'level=image', '--regularizer', 'scaling', 'factor=2.0')
    assert by_file.regularizer == by_flag.regularizer == {'scaling': {'factor': 2.}, 'shake_drop': {'level': 'image'}}


def test_a_resumed_run_keeps_them_and_spelling_out_defaults_is_no_change(scaling, image_folder, tmp_path):
    def resumed(before, after):
        saved, args = (settings(image_folder, tmp_path, *each) for each in (before, after))
        state = CheckpointState.from_state({'args': saved.namespace(), 'epoch': 0})
        check_continues(args, None, lambda args: GradAugSettings(), 'X', state)
    plain = ('--regularizer', 'scaling', 'factor=2.')
    resumed(plain, (*plain, 'limits=(0.,9.)', 'always=False'))
    with pytest.raises(ValueError, match=r'--regularizer scaling factor=3\.0 .*: the checkpoint X was trained with'):
        resumed(plain, ('--regularizer', 'scaling', 'factor=3.'))
    with pytest.raises(ValueError, match='--regularizer scaling off: the checkpoint X was trained with factor='):
        resumed(plain, ())


def test_flags_of_the_own_regularisers_give_their_settings(image_folder, tmp_path):
    args = settings(image_folder, tmp_path, shake_drop=0.7, shake_drop_level='image', paper_drop_block=0.1)
    assert regularizer_settings(args) == {
        'shake_drop': dict(survival=0.7, alpha=(-1., 1.), beta=(0., 1.), level='image'),
        'paper_drop_block': dict(rate=0.1, size=7)}


def test_whoever_evaluates_a_checkpoint_adds_what_acts_in_evaluation(scaling, tmp_path):
    saved = argparse.Namespace(model='resnet20_cifar', regularizer={'scaling': {'factor': 3., 'always': True}})
    plain = network().eval()
    torch.save({'arch': 'resnet20_cifar', 'args': saved, 'state_dict': plain.state_dict()}, tmp_path / 'x.pth.tar')
    trained = open_trained(tmp_path / 'x.pth.tar', num_classes=3, model_kwargs={'depth': 8})
    scaled = trained.network
    assert trained.scaling == {}
    x = torch.randn(2, 3, 16, 16)
    bias = plain.head.fc.bias.detach()
    torch.testing.assert_close(scaled(x), 3 * (plain(x) - bias) + bias)


class Wide(nn.Module):
    """Twelve channels between two convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 5, 1)

    def forward(self, x):
        return self.second(self.first(x).relu()).mean((2, 3))


def test_a_planner_plans_the_networks_that_hold_its_class():
    class Held(Wide):
        pass

    assert extract(make_elastic(nn.Sequential(Wide())), Subnet(0.5, 1))[0].first.out_channels == 6
    @register_planner(Held)
    def in_fours(model):
        for plan in plans_by_probing(model):
            yield type(plan)(
                tuple(type(group)(group.units, group.size, 4, group.expansion) for group in plan.groups),
                plan.tensors, plan.numbers, plan.blocks)
    try:
        assert extract(make_elastic(nn.Sequential(Held())), Subnet(0.5, 1))[0].first.out_channels == 8
        with pytest.raises(ValueError, match=r'planner of Held is registered already, by .*in_fours; choose another'):
            register_planner(Held)(plans_by_probing)
    finally:
        PLANNERS.remove(Held)


def test_a_block_has_one_way_to_be_skipped():
    register_block(Wide)(Skippable)
    try:
        with pytest.raises(ValueError, match='way to skip Wide is registered already'):
            register_block(Wide)(Skippable)
    finally:
        BLOCKS.remove(Wide)


def asked(**values):
    return SimpleNamespace(values=lambda: values)


class Memory(Logger):
    """Keeps what it is given."""

    def __init__(self, run):
        self.run, self.kept = run, []

    def log(self, values, step):
        self.kept.append((step, values))

    def image(self, name, picture, step):
        raise RuntimeError('no pictures here')


@pytest.fixture
def memory():
    """A logger by the name of memory; the list of those that were opened."""
    opened = []

    @register_logger('memory')
    def open_memory(run):
        opened.append(Memory(run))
        return opened[-1]
    yield opened
    LOGGERS.remove('memory')


def test_a_registered_logger_gets_the_figures_of_the_run_and_what_it_is(memory, tmp_path):
    logs = open_loggers(asked(log=['memory'], seed=3), RunFolder(str(tmp_path / 'run')), continued_at=4, ahead=2)
    (tmp_path / 'run').mkdir()
    logs.log({'loss': 1.}, 5)
    run = memory[0].run
    assert memory[0].kept == [(7, {'loss': 1.})]
    assert (run.name, run.flags['seed'], run.continued_at) == ('run', 3, 4)
    assert open_loggers(asked(log_memory=True), RunFolder(str(tmp_path))) and len(memory) == 2


def test_a_guarded_logger_that_fails_is_left_out_with_a_warning(memory, tmp_path, caplog):
    logs = open_loggers(asked(log=['memory']), RunFolder(str(tmp_path)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Memory, 'log', lambda *args: 1 / 0)
        logs.log({'loss': 1.}, 0)
        logs.log({'loss': 1.}, 1)
    warning, = caplog.messages
    assert warning.startswith('--log-memory failed; the run continues without it')


def test_an_unknown_logger_and_a_name_taken_twice_are_refused(memory, tmp_path):
    with pytest.raises(ValueError, match=r"unknown logger 'memry', did you mean memory\? \(registered: tensorboard"):
        open_loggers(asked(log=['memry']), RunFolder(str(tmp_path)))
    with pytest.raises(ValueError, match=r"logger 'wandb' is registered already, by gradaug_timm.*start_wandb"):
        register_logger('wandb')(Memory)


def test_those_that_may_refuse_are_opened_before_others_are_begun(memory, tmp_path):
    @register_logger('strict', may_refuse=True)
    def refuse(run):
        raise RefusedError('no such project')
    try:
        with pytest.raises(RefusedError, match='no such project'):
            open_loggers(asked(log=['memory', 'strict']), RunFolder(str(tmp_path)))
    finally:
        LOGGERS.remove('strict')
    assert memory == []
