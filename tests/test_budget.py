"""The cost of GradAug, and settings within a budget, against costs computed by hand."""
import logging
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn
from train_helpers import arguments, error_line, train

from gradaug_timm import GradAugSettings, make_elastic, open_trained
from gradaug_timm.evaluation.subnets import choose_subnets
from gradaug_timm.task.budget import choose_preset
from gradaug_timm.task.cost import RelativeCost
from gradaug_timm.task.fit_inputs import fit_inputs
from gradaug_timm.training.outputs.run_json import read_record

PASSES = {1: 0.52, 2: 1.10, 3: 1.68}  # of the ImageNet preset, in plain steps (paper's facts)
HALF_SIZE = 0.11  # of one sub-network at half the size, likewise
LIMITED = ('batch_fraction', 'interval')


def by_hand(settings: GradAugSettings) -> float:
    each = HALF_SIZE * settings.subnets if settings.sizes == (0.5,) else PASSES[settings.subnets]
    return 1 + each * settings.batch_fraction / settings.interval


def chosen(preset, budget, cost=by_hand, **given):
    return choose_preset(preset, budget, lambda name: GradAugSettings.preset(224, name, **given), cost, given=given)


@pytest.mark.parametrize('budget, preset', [
    (9.0, 'paper'), (2.68, 'paper'), (2.67, 'default'), (1.55, 'default'), (1.54, 'fast'), (1.11, 'fast'),
])
def test_a_budget_chooses_the_most_expensive_preset_that_fits(budget, preset):
    assert chosen(None, budget) == (preset, GradAugSettings.preset(224, preset))


@pytest.mark.parametrize('preset, budget, given, expected', [
    (None, 1.08, dict(), ('fast', 0.72, 1)),
    (None, 1.01, dict(), ('fast', 0.27, 3)),
    (None, 1.05, dict(batch_fraction=1.0), ('fast', 1.0, 3)),
    (None, 2.0, dict(subnets=3), ('default', 0.5, 1)),
    (None, 1.5, dict(subnets=3), ('fast', 0.36, 1)),  # limited to 1.12 by the preset
    ('paper', 1.5, dict(), ('paper', 0.29, 1)),
    ('paper', 1.2, dict(), ('paper', 0.35, 3)),
    ('default', 1.2, dict(interval=2), ('default', 0.36, 2)),
    ('fast', 2.0, dict(), ('fast', 1.0, 1)),
])
def test_a_budget_below_a_preset_takes_part_of_the_batch_then_fewer_steps(preset, budget, given, expected):
    name, found = chosen(preset, budget, **given)
    assert (name, *(getattr(found, each) for each in LIMITED)) == expected
    assert by_hand(found) <= budget
    of_preset = GradAugSettings.preset(224, name, **given)
    assert replace(found, **{each: getattr(of_preset, each) for each in LIMITED}) == of_preset


def test_a_budget_that_the_given_flags_exceed_is_refused_with_the_least_cost():
    with pytest.raises(ValueError, match=r'--gradaug-budget 1\.4 must be at least 1\.42'):
        chosen(None, 1.4, subnets=3, sizes=(1.0,), batch_fraction=0.5, interval=2)


@pytest.mark.parametrize(('name', 'kwargs', 'pixels'), [
    ('wide_resnet28_10', dict(depth=16, widen_factor=4), 32), ('resnet18', {}, 64), ('tf_efficientnet_lite0', {}, 224),
    ('vit_tiny_patch16_224', dict(depth=2), 224),
])
def test_the_preset_fast_costs_at_most_an_eighth_more_than_plain_training_on_any_network(name, kwargs, pixels):
    network = make_elastic(timm.create_model(name, num_classes=10, **kwargs))
    cost = RelativeCost(network, (3, pixels, pixels), batch=64)
    settings = fit_inputs(network, GradAugSettings.preset(pixels, 'fast'), (3, pixels, pixels))
    _, found = choose_preset('fast', None, lambda _: settings, cost)
    assert 1.05 < cost(found) <= 1.12
    assert found.subnets == 1
    assert (found == settings) == (cost(settings) <= 1.12)


def test_a_preset_does_not_change_what_is_given():
    given = dict(subnets=3, sizes=(1.0,))
    assert chosen('fast', None, batch_fraction=1., interval=1, **given)[1].batch_fraction == 1
    assert chosen('default', None) == chosen(None, None) == ('default', GradAugSettings.preset(224))
    half = chosen('fast', None, batch_fraction=0.5, **given)[1]
    assert (half.batch_fraction, half.interval) == (0.5, 7)  # 1.68 / 2 / 7 < 0.12


@pytest.fixture(scope='module')
def network():
    """Multiply-adds by hand: 9 * 3 * 8 a pixel (3x3, padded), and 8 * 5 in the classifier; width 0.5 keeps 4 of 8."""
    return make_elastic(nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))


def hand_cost(width: float, pixels: int) -> float:
    channels = 8 * width
    return (27 * channels * pixels ** 2 + 5 * channels) / (27 * 8 * 16 ** 2 + 40)


ONE = GradAugSettings(subnets=1, min_width=0.5, divisor=1, sizes=(0.5,))


@pytest.mark.parametrize('given, passes', [
    (dict(), hand_cost(0.5, 8)),
    (dict(sizes=(1.0,)), hand_cost(0.5, 16)),
    (dict(interval=4), hand_cost(0.5, 8) / 4),
    (dict(batch_fraction=0.3), hand_cost(0.5, 8) * 3 / 10),
    (dict(batch_fraction=0.01), hand_cost(0.5, 8) * 2 / 10),
    (dict(off_epoch=3), hand_cost(0.5, 8) * 3 / 8),
    (dict(subnets=0), 0),
    (dict(min_width=1, width_steps=1, subnets=3), 3 * hand_cost(1, 8)),
])
def test_the_estimate_knows_what_makes_gradaug_cheaper(network, given, passes):
    cost = RelativeCost(network, (3, 16, 16), batch=10, epochs=8)
    assert cost(replace(ONE, **given)) == pytest.approx(1 + passes)


def test_the_estimate_averages_the_sizes_of_all_epochs(network):
    settings = replace(ONE, sizes=(1.0, 0.5), size_epochs=2)  # two epochs of the smaller, six of both
    expected = (2 * hand_cost(0.5, 8) + 6 * (hand_cost(0.5, 8) + hand_cost(0.5, 16)) / 2) / 8
    cost = RelativeCost(network, (3, 16, 16), batch=10, epochs=8)
    assert cost(settings) == pytest.approx(1 + expected, rel=0.03)
    assert cost(replace(settings, seed=1)) == cost(settings)


def test_a_run_trains_with_what_its_budget_chose_and_records_it(image_folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        folder = train(image_folder, tmp_path, gradaug=True, gradaug_budget=1.05, gradaug_divisor=4)
    record = read_record(folder)
    assert record['gradaug']['subnets'] == 1 and record['gradaug']['sizes'] == [0.5]
    assert record['gradaug']['batch_fraction'] < 1
    assert 1 < record['relative_cost'] <= 1.05
    line = next(r.message for r in caplog.records if r.message.startswith('--gradaug-budget 1.05: preset fast, int'))
    assert f'batch_fraction {record["gradaug"]["batch_fraction"]}' in line


def test_a_resumed_run_keeps_what_was_chosen_or_is_refused(image_folder, tmp_path, capsys):
    flags = dict(gradaug=True, epochs=2, resume='auto', experiment='run')
    folder = train(image_folder, tmp_path, gradaug_budget=1.05, stop_epoch=1, **flags)
    error = error_line(capsys, arguments(image_folder, tmp_path, gradaug_budget=3, **flags))
    assert '--gradaug-subnets 3' in error and 'was trained with' in error
    first = read_record(folder)
    train(image_folder, tmp_path, gradaug_budget=1.05, **flags)
    assert read_record(folder)['gradaug'] == first['gradaug']
    by_hand_flags = {f'gradaug_{name}': first['gradaug'][name] for name in LIMITED}
    train(image_folder, tmp_path, gradaug_preset='fast', **by_hand_flags, **flags)


def test_a_budget_too_small_for_the_flags_ends_with_one_line(image_folder, tmp_path, capsys):
    argv = arguments(
        image_folder, tmp_path, gradaug=True, gradaug_budget=1.1, gradaug_subnets=3, gradaug_batch_fraction=1.,
        gradaug_interval=1)
    assert '--gradaug-budget 1.1 must be at least 1.65, ' in error_line(capsys, argv)


@pytest.mark.parametrize('flags, words', [
    (dict(gradaug_budget=1), "'1' must be a number above 1"),
    (dict(gradaug_budget=1.5), '--gradaug-budget needs GradAug'),
    (dict(gradaug_batch_fraction=0), '--gradaug-batch-fraction'),
    (dict(gradaug=True, gradaug_size_epochs=2, gradaug_sizes=[1, 8]), 'size_epochs=2 must be 0 with sizes'),
])
def test_wrong_flags_end_with_one_line(image_folder, tmp_path, capsys, flags, words):
    assert words in error_line(capsys, arguments(image_folder, tmp_path, **flags))


@pytest.mark.parametrize(('preset', 'expected'), [
    (None, dict(subnets=2, batch_fraction=0.5, width_steps=5, divisor=8)),
    ('paper', dict(subnets=3, batch_fraction=1., width_steps=0, divisor=1)),
    ('fast', dict(subnets=1, sizes=[0.5])),
])
def test_a_run_takes_its_preset_and_what_is_given_wins(image_folder, tmp_path, preset, expected):
    flags = dict(gradaug=True, gradaug_weight=0.5, model_kwargs=['widen_factor=2', 'depth=10'], model='wide_resnet16_8')
    flags |= dict(gradaug_preset=preset) if preset else {}
    record = read_record(train(image_folder, tmp_path, **flags))
    assert {name: record['gradaug'][name] for name in expected} == expected
    assert record['gradaug']['weight'] == 0.5
    assert preset != 'fast' or record['relative_cost'] <= 1.12


def test_a_run_with_a_preset_that_took_a_part_of_the_batch_resumes_with_it(image_folder, tmp_path, capsys):
    flags = dict(gradaug=True, gradaug_divisor=4, gradaug_sizes=[1, 0.75], epochs=2, resume='auto')  # costs too much
    folder = train(image_folder, tmp_path, gradaug_preset='fast', stop_epoch=1, **flags)
    first = read_record(folder)
    assert first['gradaug']['batch_fraction'] < 1 and first['relative_cost'] <= 1.12
    error = error_line(capsys, arguments(image_folder, tmp_path, gradaug_preset='paper', experiment='run', **flags))
    assert '--gradaug-subnets 3' in error and 'was trained with' in error
    train(image_folder, tmp_path, gradaug_preset='fast', **flags)
    assert read_record(folder)['gradaug'] == first['gradaug']


def test_a_checkpoint_from_before_there_were_presets_had_three_subnetworks_on_the_whole_batch(
        image_folder, tmp_path, capsys):
    flags = dict(gradaug=True, gradaug_divisor=4, epochs=2, resume='auto')
    paper = dict(gradaug_subnets=3, gradaug_batch_fraction=1.)
    folder = train(image_folder, tmp_path, stop_epoch=1, **paper, **flags)
    for path in folder.glob('*.pth.tar'):
        checkpoint = torch.load(path, weights_only=False)
        vars(checkpoint['args']).pop('gradaug_preset', None)  # some of the files are one file
        checkpoint['args'].gradaug_subnets = checkpoint['args'].gradaug_batch_fraction = None
        torch.save(checkpoint, path)
    error = error_line(capsys, arguments(image_folder, tmp_path, experiment='run', **flags))
    assert '--gradaug-subnets 2' in error and 'was trained with 3' in error
    train(image_folder, tmp_path, **paper, **flags)


@pytest.mark.parametrize(('flags', 'divisor'), [
    (dict(gradaug_preset='paper'), 1), (dict(gradaug_preset='paper', gradaug_divisor=2), 2),
    (dict(gradaug_divisor=4), 4),
])
def test_sub_networks_of_a_trained_network_are_rounded_as_in_its_preset(image_folder, tmp_path, flags, divisor):
    folder = train(image_folder, tmp_path, gradaug=True, **flags)
    for name in ('model_best.pth.tar', 'model_best.safetensors'):
        trained = open_trained(folder / name)
        assert choose_subnets(trained, [0.5])[0].divisor == divisor
