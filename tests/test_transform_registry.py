"""Transformations added by a decorator: found by name, drawn for each step, and included in all sizes."""
import json
import pickle
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn
from train_helpers import arguments, error_line, train

from gradaug_timm import GradAugSettings, GradAugTask, InputTransformation, make_elastic, register_transform
from gradaug_timm.detection.task import GradAugDetectionTask
from gradaug_timm.environment import flags_in
from gradaug_timm.registry import Registry
from gradaug_timm.task.compile_limit import count_graphs
from gradaug_timm.task.cost import RelativeCost
from gradaug_timm.task.fit_inputs import fit_inputs
from gradaug_timm.task.sampling import draw_step, most_sizes, possible_transforms
from gradaug_timm.task.transforms import TRANSFORMS, InputTransform, apply_transform
from gradaug_timm.training.arguments import given_settings
from gradaug_timm.training.outputs.input_pictures import network_inputs
from gradaug_timm.training.outputs.run_json import read_record

SIZE = 16


class Enlarge(InputTransformation):
    """Repeat every pixel."""
    allowed = 'a whole number of at least 1'

    @classmethod
    def is_allowed(cls, value):
        return value == int(value) and value >= 1

    def output_size(self, height, width):
        return int(self.value) * height, int(self.value) * width

    def changes(self, height, width):
        return self.value > 1

    def apply(self, images):
        return images.repeat_interleave(int(self.value), 2).repeat_interleave(int(self.value), 3)


class Noise(InputTransformation):
    """Add noise to every image alike."""
    is_random = True

    def apply(self, images):
        return images + self.value * torch.randn(images.shape[1:], generator=self.generator())


class Shout(InputTransformation):
    """Say another size than it gives."""

    def output_size(self, height, width):
        return height + 1, width

    def apply(self, images):
        return images


@pytest.fixture(autouse=True)
def registered():
    """Three transformations, known for the time of a test."""
    for name, cls in (('enlarge', Enlarge), ('noise', Noise), ('shout', Shout)):
        register_transform(name)(cls)
    yield
    for name in ('enlarge', 'noise', 'shout'):
        TRANSFORMS.remove(name)


def drawn(settings, steps=40):
    return [draw for step in range(steps) for draw in draw_step(settings, step, num_blocks=3)]


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match=r"transformation 'noise' is registered already, by .*Noise; choose another"):
        register_transform('noise')(Enlarge)
    assert TRANSFORMS['noise'] is Noise and Enlarge.name == 'enlarge'


def test_a_registry_of_classes_names_them_in_its_error():
    registry = Registry('planner of')
    registry.add(nn.Linear, print)
    with pytest.raises(ValueError, match=r'planner of Linear is registered already, by builtins\.print'):
        registry.add(nn.Linear, len)
    assert list(registry) == [nn.Linear] and len(registry) == 1


@pytest.mark.parametrize('given, words', [
    (dict(enlrge=(1,)), r"unknown transformation 'enlrge', did you mean enlarge\? \(registered: .*noise"),
    (dict(enlarge=(1.5,)), r'enlarge=1\.5 must be a whole number of at least 1'),
    (dict(enlarge='2,x'), 'enlarge=x must be a whole number'),
    (dict(enlarge='1/0'), 'enlarge=1/0 must be'),
    (dict(enlarge=True), 'enlarge=True must be'),
    (dict(noise=[float('nan')]), 'noise=nan must be a number'),
    (dict(noise=()), 'noise must have values to draw from'),
    (dict(rotation=(5,)), 'rotation has a setting of its own, rotation'),
    (dict(size=(0.5,)), 'size has a setting of its own, sizes'),
    (0.5, r'transforms=0\.5 must be a mapping'),
    ('crop', 'transforms=\'crop\' must be a mapping'),
])
def test_what_is_unknown_or_out_of_range_is_refused_by_name_and_value(given, words):
    with pytest.raises(ValueError, match=words):
        GradAugSettings(transforms=given)


def test_problems_of_transformations_are_reported_with_all_others():
    with pytest.raises(ValueError) as error:
        GradAugSettings(divisor=0, transforms=dict(enlarge=0, nois=1))
    assert all(words in str(error.value) for words in ('divisor=0', 'enlarge=0', "unknown transformation 'nois'"))


@pytest.mark.parametrize('given', [
    dict(noise=(0.5, 1.0), enlarge=(1, 2)), dict(enlarge=[1, 2], noise=[0.5, 1.0]), dict(enlarge='1, 2', noise='1/2,1'),
    (('enlarge', (1, 2)), ('noise', (0.5, 1.0)))])
def test_settings_are_the_same_however_they_are_written(given):
    settings = GradAugSettings(transforms=given)
    assert settings == GradAugSettings(transforms=dict(enlarge=(1, 2), noise=(0.5, 1.0)))
    assert len({settings, replace(settings, seed=settings.seed)}) == 1
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert json.loads(json.dumps(asdict(settings)))['transforms'] == [['enlarge', [1, 2]], ['noise', [0.5, 1.0]]]


@pytest.mark.parametrize('given', [dict(), dict(mode='both'), dict(width_steps=0, rotation=(0., 90.)),
                                   dict(size_epochs=3)])
def test_further_transformations_leave_all_other_draws_as_they_are(given):
    plain = GradAugSettings(seed=3, **given)
    more = replace(plain, transforms=dict(noise=(0.5, 1.0), enlarge=(1, 2)))
    built_in = len(plain.built_in)
    for one, other in zip(drawn(plain), drawn(more)):
        assert other.subnet == one.subnet and other.transform.steps[:built_in] == one.transform.steps
        assert [step.name for step in other.transform.steps[built_in:]] == ['enlarge', 'noise']


def test_values_come_from_the_list_and_seeds_from_seed_and_step():
    settings = GradAugSettings(subnets=2, transforms=dict(noise=(0.5, 1.0)))
    noises = [draw.transform.steps[-1] for draw in drawn(settings)]
    assert {noise.value for noise in noises} == {0.5, 1.0}
    assert len({noise.seed for noise in noises}) == len(noises)
    assert noises == [draw.transform.steps[-1] for draw in drawn(settings)]
    others = [draw.transform.steps[-1] for draw in drawn(replace(settings, seed=1))]
    assert not {noise.seed for noise in noises} & {noise.seed for noise in others}


def test_a_random_transformation_gives_the_same_images_for_the_same_draw():
    images = torch.randn(4, 3, SIZE, SIZE)
    draw, other = drawn(GradAugSettings(subnets=2, sizes=(1.0,), transforms=dict(noise=(1.0,))), steps=1)
    state = torch.get_rng_state()
    view = apply_transform(images, draw.transform)
    assert torch.equal(view, apply_transform(images, draw.transform))
    assert not torch.equal(view, apply_transform(images, other.transform))
    torch.testing.assert_close(view - images, (view - images)[:1].expand(4, -1, -1, -1))
    assert torch.equal(state, torch.get_rng_state())


def test_the_size_is_that_after_all_steps_and_the_layout_stays():
    images = torch.randn(2, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    transform = InputTransform((Enlarge(2), Noise(0.1), Enlarge(3)))
    assert transform.output_size(4, 5) == (24, 30)
    view = apply_transform(images, transform)
    assert view.shape == (2, 3, 6 * SIZE, 6 * SIZE) and view.is_contiguous(memory_format=torch.channels_last)
    assert apply_transform(images, InputTransform((Enlarge(1), Enlarge(1)))) is images


def test_a_size_that_is_not_the_declared_one_is_an_error():
    with pytest.raises(ValueError, match=r"'shout' at 1 gives \(2, 3, 16, 16\), not \(2, 3, 17, 16\)"):
        apply_transform(torch.zeros(2, 3, SIZE, SIZE), InputTransform((Shout(1),)))


def network():
    torch.manual_seed(0)
    return timm.create_model('gradaug_resnet20_cifar', num_classes=3, depth=8).train()


def test_subnetworks_see_what_the_transformation_makes_of_the_batch():
    settings = GradAugSettings.preset(SIZE, subnets=2, sizes=(1.0,), transforms=dict(enlarge=(2,)), batch_fraction=0.5)
    task, seen = GradAugTask(network(), nn.CrossEntropyLoss(), settings=settings), []
    task.trainable_module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.randn(8, 3, SIZE, SIZE)
    task(images, torch.arange(8) % 3)['loss'].backward()
    expected = images[:4].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(seen[0], images) and all(torch.equal(each, expected) for each in seen[1:])
    titles = [title for title, _ in network_inputs(task, images)]
    assert titles[1].endswith('size 1, enlarge 2, 32x32 px')


def test_passes_on_images_that_do_not_change_repeat_the_full_networks():
    for value, passes in ((1, 1), (2, 3)):
        settings = GradAugSettings.preset(
            SIZE, subnets=2, batch_fraction=1., min_width=1.0, sizes=(1.0,), transforms=dict(enlarge=(value,)))
        task, seen = GradAugTask(network(), nn.CrossEntropyLoss(), settings=settings), []
        task.trainable_module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(1))
        task(torch.randn(4, 3, SIZE, SIZE), torch.arange(4) % 3)
        assert len(seen) == passes


def test_costs_are_those_of_the_transformed_images():
    model = make_elastic(nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))
    settings = GradAugSettings(subnets=1, min_width=0.5, divisor=1, sizes=(0.5,), transforms=dict(enlarge=(4,)))
    by_hand = (27 * 4 * 32 ** 2 + 5 * 4) / (27 * 8 * SIZE ** 2 + 5 * 8)
    assert RelativeCost(model, (3, SIZE, SIZE), batch=8)(settings) == pytest.approx(1 + by_hand)


@pytest.mark.parametrize('given, sizes', [
    (dict(enlarge=(1, 2)), 4), (dict(noise=(0.1, 0.2, 0.3)), 2), (dict(enlarge=(1, 2), noise=(0.1, 0.2)), 4)])
def test_graphs_are_counted_by_the_sizes_of_transformed_images(given, sizes):
    settings = GradAugSettings(width_steps=2, sizes=(1.0, 0.75), rotation=(0.0, 90.0), transforms=given)
    assert most_sizes(settings) == sizes
    assert count_graphs(settings, [(8, SIZE, SIZE)]) == 1 + 3 * sizes
    values = [len(values) for _, values in settings.transforms]
    assert len(list(possible_transforms(settings))) == 2 * 2 * torch.tensor(values).prod()


def test_sizes_that_two_ways_lead_to_are_one_graph():
    settings = GradAugSettings(width_steps=2, sizes=(1.0, 0.5), transforms=dict(enlarge=(1, 2)))
    assert count_graphs(settings, [(8, SIZE, SIZE)]) == 1 + 3 * 3  # 8, 16 twice, and 32 pixels


def test_a_network_that_fails_on_transformed_images_is_refused_with_the_values():
    model = make_elastic(timm.create_model('vit_tiny_patch16_224', depth=1, img_size=32))
    settings = GradAugSettings.preset(32, transforms=dict(enlarge=(1, 2)))
    with pytest.raises(ValueError, match=r'--gradaug-transforms, size 1, .*enlarge 2: the network fails at 64x64'):
        fit_inputs(model, settings, (3, 32, 32), given=('transforms',))
    unchanged = GradAugSettings.preset(32, transforms=dict(enlarge=(1,)))
    assert fit_inputs(model, unchanged, (3, 32, 32), given=('transforms',)).sizes == (1.0,)


def test_detection_takes_no_transformation_that_boxes_could_not_follow():
    model = SimpleNamespace(modules=lambda: ())
    with pytest.raises(ValueError, match=r'noise=\(0\.5,\) must be empty in detection'):
        GradAugDetectionTask.__init__(
            GradAugDetectionTask.__new__(GradAugDetectionTask), model,
            settings=GradAugSettings(transforms=dict(noise=0.5)))


def test_a_run_takes_them_from_flags_and_yaml_and_records_them(image_folder, tmp_path):
    flags = dict(gradaug=True, gradaug_subnets=1)
    by_flag = train(image_folder, tmp_path, gradaug_transforms=['enlarge=1,2', 'noise=1/2'], **flags)
    (tmp_path / 'more.yaml').write_text('gradaug_transforms: {noise: [1/2], enlarge: [1, 2]}\n')
    by_file = train(image_folder, tmp_path, experiment='file', config=str(tmp_path / 'more.yaml'), **flags)
    assert read_record(by_flag)['gradaug']['transforms'] == [['enlarge', [1, 2]], ['noise', [0.5]]]
    tables = [(folder / 'summary.csv').read_text().splitlines()[1].split(',')[1] for folder in (by_flag, by_file)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize('flags, words', [
    (dict(gradaug=True, gradaug_transforms=['nois=1']), "unknown transformation 'nois', did you mean noise?"),
    (dict(gradaug=True, gradaug_transforms=['enlarge=0']), 'enlarge=0 must be a whole number'),
    (dict(gradaug=True, gradaug_transforms=['enlarge']), "'enlarge' must be written key=value"),
    (dict(gradaug_transforms=['noise=1']), '--gradaug-transforms needs GradAug'),
])
def test_wrong_flags_end_with_one_line(image_folder, tmp_path, capsys, flags, words):
    assert words in error_line(capsys, arguments(image_folder, tmp_path, **flags))


def test_a_resumed_run_keeps_its_transformations(image_folder, tmp_path, capsys):
    flags = dict(gradaug=True, gradaug_subnets=1, experiment='run')
    train(image_folder, tmp_path, gradaug_transforms=['noise=0.5'], **flags)
    flags.update(resume='auto', epochs=2)
    error = error_line(capsys, arguments(image_folder, tmp_path, gradaug_transforms=['noise=0.25'], **flags))
    assert '--gradaug-transforms noise 0.25: the checkpoint' in error and 'was trained with noise 0.5' in error
    train(image_folder, tmp_path, gradaug_transforms=['noise=1/2'], **flags)


def test_the_hook_takes_them_from_its_variable():
    flags = flags_in({'GRADAUG_TRANSFORMS': 'enlarge=1,2 noise=0.5', 'GRADAUG_SIZES': '1.0,0.5'})
    settings = GradAugSettings(**given_settings(flags))
    assert settings.transforms == (('enlarge', (1, 2)), ('noise', (0.5,))) and settings.sizes == (1.0, 0.5)
