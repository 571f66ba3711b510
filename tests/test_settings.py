"""Settings of GradAug, and the draws of a step."""
from dataclasses import replace

import pytest

from gradaug_timm import GradAugSettings, Subnet
from gradaug_timm.task.sampling import draw_step, images_seen, survival_probabilities, width_grid


@pytest.mark.parametrize('given, words', [
    (dict(subnets=-1), 'subnets=-1'), (dict(mode='wide'), 'one of width, depth, both'),
    (dict(min_width=0), 'min_width=0'), (dict(min_width=1.2), 'min_width=1.2'), (dict(width_steps=-1), 'width_steps'),
    (dict(divisor=0), 'divisor=0'),
    (dict(sizes=0.5), 'sizes=0.5'), (dict(rotation=15.0), 'rotation=15.0'),
    (dict(sizes=()), 'sizes'), (dict(sizes=(1.5,)), 'sizes'), (dict(sizes=(1,)), 'sizes'),
    (dict(sizes=(0.0,)), 'sizes'),
    (dict(rotation=(400,)), 'rotation'), (dict(min_survival=2), 'min_survival=2'),
    (dict(weight=-1), 'weight=-1'),
    (dict(temperature=0), 'temperature=0'), (dict(interval=0), 'interval=0'), (dict(off_epoch=-1), 'off_epoch'),
    (dict(statistics='none'), 'one of full, all'), (dict(statistics='all'), "statistics='all' must be 'full'"),
    (dict(batch_fraction=0), 'batch_fraction=0'), (dict(batch_fraction=1.1), 'batch_fraction=1.1'),
    (dict(size_epochs=-1), 'size_epochs=-1'), (dict(size_epochs=2, sizes=(1.0, 20)), 'size_epochs=2 must be 0 with'),
    (dict(seed=-1), 'seed=-1'), (dict(weight=float('nan')), 'weight=nan')])
def test_a_setting_out_of_range_is_refused_with_its_name_and_value(given, words):
    with pytest.raises(ValueError, match=words):
        GradAugSettings(**given)


def test_all_problems_are_reported_together():
    with pytest.raises(ValueError) as error:
        GradAugSettings(subnets=-1, divisor=0, temperature=-2)
    assert all(words in str(error.value) for words in ('subnets=-1', 'divisor=0', 'temperature=-2'))


def test_presets_follow_the_image_size():
    small, large = GradAugSettings.preset(95), GradAugSettings.preset(96)
    assert (small.min_width, small.sizes) == (0.8, (1.0, 7 / 8, 3 / 4))
    assert (large.min_width, large.sizes) == (0.9, (1.0, 6 / 7, 5 / 7, 4 / 7))
    assert GradAugSettings.preset(32, min_width=0.5).min_width == 0.5
    assert GradAugSettings.preset(32) == GradAugSettings.preset(32, 'default') == GradAugSettings.preset(32, None)


@pytest.mark.parametrize(('size', 'expected'), [
    (224, dict(min_width=0.9, sizes=(224 / 224, 192 / 224, 160 / 224, 128 / 224))),
    (32, dict(min_width=0.8, sizes=(32 / 32, 28 / 32, 24 / 32))),
])
def test_the_preset_paper_is_as_published(size, expected):
    found = GradAugSettings.preset(size, 'paper')
    assert found == GradAugSettings(subnets=3, width_steps=0, divisor=1, interval=1, batch_fraction=1., **expected)
    depth = GradAugSettings.preset(size, 'paper', mode='depth')
    assert depth == replace(found, mode='depth', statistics='all')
    assert GradAugSettings.preset(size, 'paper', mode='depth', statistics='full').statistics == 'full'


def test_a_preset_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="name='quick' must be one of paper, default, fast"):
        GradAugSettings.preset(32, 'quick')


def test_a_step_has_the_minimum_width_and_runs_from_the_widest():
    settings = GradAugSettings(subnets=4)
    for step in range(50):
        widths = [draw.subnet.width for draw in draw_step(settings, step, num_blocks=5)]
        assert widths == sorted(widths, reverse=True) and widths[-1] == 0.9
        assert set(widths) <= set(width_grid(settings))
    assert width_grid(settings) == (0.9, 0.92, 0.94, 0.96, 0.98, 1.0)


def test_draws_depend_on_seed_and_step_alone():
    settings = GradAugSettings(mode='both', rotation=(0.0, 90.0))
    assert draw_step(settings, 7, num_blocks=9) == draw_step(settings, 7, num_blocks=9)
    steps = [draw_step(settings, step, num_blocks=9) for step in range(20)]
    assert any(step != steps[0] for step in steps[1:])
    assert draw_step(GradAugSettings(mode='both', seed=1), 7, num_blocks=9) != draw_step(settings, 7, num_blocks=9)


def test_continuous_widths_fill_the_range():
    settings = GradAugSettings(width_steps=0, min_width=0.5)
    widths = [draw.subnet.width for step in range(300) for draw in draw_step(settings, step, num_blocks=0)[:-1]]
    assert len(set(widths)) == 600 and min(widths) < 0.52 and max(widths) > 0.98 and all(0.5 <= w <= 1 for w in widths)
    assert abs(sum(widths) / len(widths) - 0.75) < 0.02


def test_blocks_are_skipped_as_often_as_the_paper_says():
    assert survival_probabilities(5, 0.8) == pytest.approx([1.0, 0.95, 0.9, 0.85, 0.8])
    settings = GradAugSettings(mode='depth', min_survival=0.5, subnets=2)
    draws = [draw for step in range(2000) for draw in draw_step(settings, step, num_blocks=3)]
    assert all(draw.subnet.width == 1 for draw in draws)
    skipped = [sum(index in draw.subnet.skipped for draw in draws) / len(draws) for index in range(3)]
    assert skipped == pytest.approx([0, 0.25, 0.5], abs=0.03)


def test_both_modes_together_draw_widths_and_blocks():
    draws = [draw for step in range(100) for draw in draw_step(GradAugSettings(mode='both'), step, num_blocks=6)]
    assert any(draw.subnet.width < 1 and draw.subnet.skipped for draw in draws)


def test_sizes_and_angles_come_from_the_lists():
    settings = GradAugSettings(sizes=(1.0, 20), rotation=(0.0, 15.0))
    transforms = {draw.transform for step in range(50) for draw in draw_step(settings, step, num_blocks=0)}
    drawn = {tuple(step.value for step in transform.steps) for transform in transforms}
    assert drawn == {(1.0, 0.0), (1.0, 15.0), (20, 0.0), (20, 15.0)}


def test_no_subnetworks_draw_nothing():
    assert draw_step(GradAugSettings(subnets=0), 0, num_blocks=3) == []
    assert draw_step(GradAugSettings(subnets=1), 0, num_blocks=3)[0].subnet == Subnet(0.9)


def sizes_drawn(settings, epoch):
    draws = [draw for step in range(60) for draw in draw_step(settings.at(epoch), step, num_blocks=0)]
    return {draw.transform.steps[0].value for draw in draws}


@pytest.mark.parametrize('sizes', [(1.0, 0.5, 0.75), (32, 16, 24)])
def test_sizes_join_one_after_the_other_the_smallest_first(sizes):
    _, small, middle = sizes
    settings = GradAugSettings(sizes=sizes, size_epochs=4)
    drawn = [sizes_drawn(settings, epoch) for epoch in range(6)]
    assert drawn == [{small}, {small}, {small, middle}, {small, middle}, set(sizes), set(sizes)]


def test_all_sizes_are_there_in_time_where_epochs_are_few():
    settings = GradAugSettings(sizes=(1.0, 0.5, 0.75, 0.6), size_epochs=1)
    assert (sizes_drawn(settings, 0), sizes_drawn(settings, 1)) == ({0.5}, {1.0, 0.5, 0.75, 0.6})


def test_an_epochs_sizes_leave_the_widths_as_they_are_and_later_draws_too():
    early, plain = GradAugSettings(size_epochs=9), GradAugSettings()
    for step in range(20):
        first, usual = (draw_step(which, step, num_blocks=0) for which in (early.at(0), plain))
        assert [draw.subnet for draw in first] == [draw.subnet for draw in usual]
        assert draw_step(early.at(9), step, num_blocks=0) == usual


def test_from_the_off_epoch_on_nothing_is_drawn():
    settings = GradAugSettings(off_epoch=2)
    assert [len(draw_step(settings.at(epoch), 0, num_blocks=0)) for epoch in range(4)] == [3, 3, 0, 0]


@pytest.mark.parametrize('batch, fraction, seen', [
    (128, 1, 128), (128, 0.5, 64), (5, 0.5, 3), (16, 0.01, 2), (2, 0.3, 2), (1, 0.5, 1)])
def test_subnetworks_see_a_share_of_the_batch_but_never_a_single_image_of_several(batch, fraction, seen):
    assert images_seen(batch, fraction) == seen
